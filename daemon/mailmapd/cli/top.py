"""`mailmapd top`: the running daemon, live."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import click

from mailmapd.cli.control import ControlCommand, connect, control_options
from mailmapd.cli.output import say


@click.command("top", cls=ControlCommand)
@click.option(
    "-i",
    "--interval",
    type=click.FloatRange(min=0.2, max=60.0),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@control_options
def command(interval: float, config_file: str, address: str | None) -> None:
    """Watch the running daemon: lookups a second, the share answered from memory, latencies, databases.

    `q` and Ctrl-C quit.

    Exit status: 0 quit, 64 wrong usage or no terminal, 75 no daemon answers (any more), 77 no permission.

    \b
    Example:
      mailmapd top
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        say(
            "mailmapd: top needs a terminal; mailmapd stats prints the counters once, also with --format json",
            err=True,
        )
        sys.exit(os.EX_USAGE)
    from mailmapd.cli.top_screen import watch

    with connect(config_file, address) as daemon, suppress(KeyboardInterrupt):
        watch(daemon, interval)
