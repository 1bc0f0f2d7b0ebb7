"""`mailmapd demo`: the whole daemon on a mail database of its own."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import click

HTTP_PORT = 9780

_WHAT_TO_TRY = """
mailmapd answers for three domains with {accounts} mailboxes, from {folder}/mail.sqlite. In another terminal:

  {program} query virtual_alias_maps sales+spring@example.com --config {config}
  {program} query virtual_mailbox_maps User7+x@Example.COM --config {config}
  {program} query virtual_alias_maps anybody@example.org --config {config}      (a catch-all)
{postmap}  curl -s http://127.0.0.1:{port}/metrics | grep ^mailmapd_

Ctrl-C ends the demonstration and removes {folder}.
"""


@click.command("demo")
def command() -> None:
    """Run the daemon on an embedded SQLite mail database with sample domains, mailboxes and aliases.

    Needs no server and no root; everything it writes is in a temporary folder and goes with it.

    \b
    Example:
      mailmapd demo
    """
    from mailmapd.app.run import serve
    from mailmapd.demo import configuration, mail_database

    folder = Path(tempfile.mkdtemp(prefix="mailmapd-demo-"))
    try:
        mail_database.create(folder / "mail.sqlite")
        port = configuration.free_port(HTTP_PORT)
        config = configuration.write(folder, port)
        accounts = len(mail_database.DOMAINS) * mail_database.ACCOUNTS_PER_DOMAIN
        places = {
            "folder": folder,
            "config": config,
            "port": port,
            "program": _program(),
            "postmap": _postmap(folder),
        }
        click.echo(_WHAT_TO_TRY.format(accounts=accounts, **places))
        serve(str(config))
    finally:
        shutil.rmtree(folder)


def _program() -> str:
    """Return what to type: the plain name where the shell finds it, else the path of this program."""
    return "mailmapd" if shutil.which("mailmapd") else sys.argv[0]


def _postmap(folder: Path) -> str:
    if shutil.which("postmap") is None:
        return ""
    return f"  postmap -q sales+spring@example.com socketmap:unix:{folder}/socketmap:virtual_alias_maps\n"
