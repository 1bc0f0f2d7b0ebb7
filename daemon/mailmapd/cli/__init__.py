"""The command line.

Each command is a module of its own, imported only when it is called: `serve` must start quickly.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import sys
from typing import Any

import click

from mailmapd import __version__
from mailmapd.app.log_lines import LineFormatter
from mailmapd.cli.output import say
from mailmapd.errors import ConfigError, MailmapdError

COMMANDS = {
    "serve": "run the daemon",
    "query": "one answer, as postmap -q gives it",
    "trace": "the story of one lookup",
    "check": "look for mistakes in configuration, queries and database",
    "import": "write mailmapd.toml from Postfix's and Dovecot's files",
    "verify": "compare with the old maps, for many keys",
    "snippets": "what to paste into Postfix, Dovecot, Prometheus, systemd",
    "reload": "have the running daemon read its configuration again",
    "flush": "make the running daemon forget cached answers",
    "stats": "what the running daemon has counted",
    "top": "watch the running daemon",
    "demo": "run it on a mail database of its own",
}
"""Every command, in the order of --help, and what it does in a few words."""

_MODULES = {"import": "import_"}  # where the module cannot have the command's name


class _Commands(click.Group):
    """Loads a command's module when it is needed, and prints what mailmapd raises on purpose as plain lines."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(
            f"{__name__}.{_MODULES.get(cmd_name, cmd_name)}"
        ).command
        command.short_help = COMMANDS[cmd_name]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if not near:
                raise
            message = f"{error.format_message()} Did you mean {near[0]!r}?"
            raise click.UsageError(message, ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for fault in error.faults:
                say(f"mailmapd: {fault}", err=True)
            ctx.exit(os.EX_CONFIG)
        except MailmapdError as error:
            say(f"mailmapd: {error}", err=True)
            ctx.exit(os.EX_TEMPFAIL)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mailmapd")
def mailmapd() -> None:
    """Answer the lookups of Postfix and Dovecot from memory, in front of MySQL, MariaDB or SQLite.

    \b
    Example:
      mailmapd demo                                   try it, without a server and without root
      mailmapd serve --config /etc/mailmapd/mailmapd.toml
    """
    lines = logging.StreamHandler()  # until serve has a log of its own
    lines.setFormatter(LineFormatter("mailmapd: %(message)s"))
    logging.basicConfig(handlers=[lines], level=logging.WARNING)


def main() -> None:
    """Run the command line; the entry point of the `mailmapd` program."""
    sys.exit(mailmapd(prog_name="mailmapd"))
