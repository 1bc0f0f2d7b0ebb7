"""`mailmapd import`: from a running Postfix to mailmapd.toml, and the lines that switch over and back."""

from __future__ import annotations

from pathlib import Path

import click

from mailmapd.cli.options import DEFAULT_CONFIG


@click.command("import")
@click.option("--postfix", "directory", metavar="DIR", default="/etc/postfix", show_default=True, help="Postfix's configuration directory.")
@click.option("-o", "--output", metavar="FILE", default=DEFAULT_CONFIG, show_default=True, help="The configuration to write.")
@click.option("--keep-cf", is_flag=True, help="Refer to the .cf files instead of copying their queries; passwords stay in them.")
@click.option("--force", is_flag=True, help="Replace an existing configuration.")
def command(directory: str, output: str, keep_cf: bool, force: bool) -> None:
    """Read main.cf, master.cf and the .cf files of mysql: tables, and write mailmapd.toml.

    Passwords go to files of mode 0600 beside it. Postfix itself is not changed: the lines that switch it over to mailmapd, and those that
    switch it back, are printed to be pasted.

    \b
    Example:
      mailmapd import --postfix /etc/postfix --output /etc/mailmapd/mailmapd.toml
    """
    from mailmapd.importers import toml_writer
    from mailmapd.importers.postfix.plan import plan_import
    from mailmapd.importers.postfix.report import report

    plan = plan_import(Path(directory), keep_cf=keep_cf)
    written = toml_writer.write(plan.draft, Path(output), overwrite=force)
    click.echo(report(plan, written))
