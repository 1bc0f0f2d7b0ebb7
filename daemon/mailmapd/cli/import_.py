"""`mailmapd import`: from a running Postfix and Dovecot to mailmapd.toml, and the lines that switch over and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailmapd.cli.options import DEFAULT_CONFIG
from mailmapd.cli.output import say, say_lines

if TYPE_CHECKING:
    from mailmapd.importers.draft import Draft
    from mailmapd.importers.served import ServedMap


@click.command("import")
@click.option(
    "--postfix",
    "directory",
    metavar="DIR",
    default="/etc/postfix",
    show_default=True,
    help="Postfix's configuration directory.",
)
@click.option("--no-postfix", is_flag=True, help="Leave Postfix out.")
@click.option(
    "--dovecot-sql",
    "dovecot_files",
    metavar="FILE",
    multiple=True,
    help="A dovecot-sql.conf.ext, or a file of Dovecot 2.4 with its SQL blocks. May be repeated.",
)
@click.option(
    "--dovecot", "from_doveconf", is_flag=True, help="Find Dovecot's SQL by `doveconf -n`."
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The configuration to write.",
)
@click.option(
    "--keep-cf",
    is_flag=True,
    help="Refer to the .cf and dovecot-sql files instead of copying their queries; passwords stay there.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Write into an existing configuration: what it serves already stays, and a copy is kept.",
)
def command(  # noqa: PLR0917 - click passes every option
    directory: str,
    no_postfix: bool,
    dovecot_files: tuple[str, ...],
    from_doveconf: bool,
    output: str,
    keep_cf: bool,
    force: bool,
) -> None:
    """Read main.cf, master.cf, the .cf files of mysql: tables and Dovecot's SQL files, and write mailmapd.toml.

    Passwords go to files of mode 0600 beside it; the configuration itself is for its owner and the
    group mailmapd, because a query may hold a key. Postfix and Dovecot are not changed: the lines
    that switch Postfix over to mailmapd, and those that switch it back, are printed to be pasted,
    and so are the settings that let Dovecot ask mailmapd.

    \b
    Example:
      mailmapd import --postfix /etc/postfix --dovecot-sql /etc/dovecot/dovecot-sql.conf.ext
    """
    if no_postfix and not dovecot_files and not from_doveconf:
        raise click.UsageError(
            "--no-postfix leaves nothing to read; add --dovecot, or --dovecot-sql FILE"
        )
    from mailmapd.errors import ConfigError
    from mailmapd.importers.draft import Draft
    from mailmapd.importers.postfix.plan import plan_import
    from mailmapd.importers.postfix.report import report

    draft = Draft()
    plan = None
    if not no_postfix:
        plan = plan_import(
            Path(directory),
            keep_cf=keep_cf,
            draft=draft,
            may_be_empty=bool(dovecot_files) or from_doveconf,
            served=_served(Path(output), force=force),
        )
    try:
        notes = _import_dovecot(draft, dovecot_files, from_doveconf, keep_cf)
    except ConfigError as error:
        if plan is None or not plan.changes:
            raise
        notes = [f"Not moved from Dovecot: {fault}" for fault in error.faults]
    notes += draft.notes()
    written = _write(draft, Path(output), Path(directory), force, notes)
    if plan is not None:
        say_lines(report(plan, written))
    else:
        say(f"# Wrote {', '.join(map(str, written))}.")
    for note in notes:
        say_lines(f"# {note}")
    if dovecot_files or from_doveconf:
        say_lines(dovecots_side(output))


def _served(output: Path, *, force: bool) -> dict[str, ServedMap]:
    """Return the maps of the configuration that is to be added to."""
    from mailmapd.formats.logical_lines import read_text
    from mailmapd.importers.served import served_maps

    there = force and output.exists()
    return served_maps(read_text(output), output.absolute().parent) if there else {}


def dovecots_side(output: str) -> str:
    """Return Dovecot's settings for what was written, or which command prints them where both versions are served."""
    from mailmapd.config.loader import load_config
    from mailmapd.errors import ConfigError
    from mailmapd.snippets.dovecot import dovecot_23, dovecot_24

    try:
        config = load_config(output)
        if config.listen.lookup_http is None:
            return f"#\n{dovecot_23(config)}"
        if not config.listen.dicts:
            return f"#\n{dovecot_24(config)}"
    except ConfigError:
        pass  # such as a password file that only the daemon may read; `check` says it
    return f"# Dovecot's side: mailmapd snippets dovecot-2.3 --config {output}  (or dovecot-2.4)"


def _write(draft: Draft, output: Path, postfix: Path, force: bool, notes: list[str]) -> list[Path]:
    """Write the configuration, or add to the one that is there; note what was renewed in it."""
    from mailmapd.formats.logical_lines import read_text
    from mailmapd.importers import toml_writer
    from mailmapd.importers.merge import merge
    from mailmapd.importers.served import is_to_be_kept

    text = read_text(output) if force and output.exists() else ""
    if not text or not is_to_be_kept(text, postfix):
        return toml_writer.write(draft, output, overwrite=force)
    merged = merge(draft, text, output)
    draft.databases = merged.databases
    notes += merged.notes
    return toml_writer.write(draft, output, overwrite=True, text=merged.text)


def _import_dovecot(
    draft: Draft, files: Sequence[str], from_doveconf: bool, keep_files: bool
) -> list[str]:
    """Add Dovecot's queries to the draft; return what is worth knowing about them."""
    from mailmapd.formats.doveconf import installed_sections, read_auth_sections
    from mailmapd.importers.dovecot.sql_import import import_auth_sections, import_dovecot_sql

    notes: list[str] = []
    if from_doveconf:
        notes += import_auth_sections(draft, read_auth_sections(), keep_files=keep_files).notes
    if files:
        sections, version = installed_sections()
        paths = [Path(file) for file in files]
        notes += import_dovecot_sql(
            draft, paths, sections=sections, keep_files=keep_files, version=version
        ).notes
    return notes
