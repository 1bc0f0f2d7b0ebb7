"""`mailmapd demo`: the whole daemon on a mail database of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import click

from mailmapd.cli.output import say_lines

HTTP_PORT = 9780

_WHAT_TO_TRY = """
mailmapd answers for three domains with {accounts} mailboxes, from {folder}/mail.sqlite,
and a small crowd asks it {visitors:g} times a second. The status page, with the last hour in pictures:

  http://127.0.0.1:{port}/

In another terminal, an alias, a mailbox, and an address that only a catch-all knows:

  {program} query virtual_alias_maps sales+spring@example.com --config {config}
  {program} query virtual_mailbox_maps User7+x@Example.COM --config {config}
  {program} query virtual_alias_maps anybody@example.org --config {config}
{postmap}
What becomes of a lookup, what goes on now, what was counted so far, and whether all is well:

  {program} trace virtual_alias_maps sales+spring@example.com --config {config}
  {program} top --config {config}
  {program} stats --config {config}
  {program} check --no-postfix --config {config}
  curl -s http://127.0.0.1:{port}/metrics | grep ^mailmapd_

Ctrl-C ends the demonstration and removes {folder}.
"""


@click.command("demo")
@click.option(
    "--visitors",
    type=click.FloatRange(0, 10_000),
    default=20.0,
    show_default=True,
    help="Recipients that are asked for in each second, as Postfix would; 0: none.",
)
def command(visitors: float) -> None:
    """Run the daemon on an embedded SQLite mail database with sample domains, mailboxes and aliases.

    Needs no server and no root; everything it writes is in a temporary folder and goes with it.

    \b
    Example:
      mailmapd demo
    """
    from mailmapd.app.run import serve
    from mailmapd.demo import configuration, mail_database
    from mailmapd.demo.visitors import Visitors

    folder = Path(tempfile.mkdtemp(prefix="mailmapd-demo-"))
    crowd = Visitors(folder / "socketmap", visitors) if visitors else None
    try:
        mail_database.create(folder / "mail.sqlite")
        port = configuration.free_port(HTTP_PORT)
        config = configuration.write(folder, port)
        accounts = len(mail_database.DOMAINS) * mail_database.ACCOUNTS_PER_DOMAIN
        text = _WHAT_TO_TRY.format(
            accounts=accounts,
            folder=folder,
            config=config,
            port=port,
            program=_program(),
            postmap=_postmap(folder),
            visitors=visitors,
        )
        say_lines(text)
        if crowd is not None:
            crowd.come()
        serve(str(config))
    finally:
        if crowd is not None:
            crowd.leave()
        shutil.rmtree(folder)


def _program() -> str:
    """Return what to type, in any folder: the plain name where the shell finds it, else this program's path."""
    if shutil.which("mailmapd"):
        return "mailmapd"
    program = os.path.abspath(sys.argv[0])  # noqa: PTH100 (resolving would leave the virtual environment)
    if Path(program).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m mailmapd"
    return shlex.quote(program)


def _postmap(folder: Path) -> str:
    if shutil.which("postmap") is None:
        return ""
    return f"  postmap -q sales+spring@example.com socketmap:unix:{folder}/socketmap:virtual_alias_maps\n"
