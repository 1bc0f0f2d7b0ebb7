"""`mailmapd stats`: the running daemon's counters, as tables or JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, cast

import click

from mailmapd.cli.control import ControlCommand, connect, control_options

if TYPE_CHECKING:
    from mailmapd.stats.snapshot import Snapshot

PIPE_WIDTH = 160  # columns where there is no terminal to ask: nothing is cut


@click.command("stats", cls=ControlCommand)
@click.option(
    "--format",
    "output",
    type=click.Choice(("table", "json")),
    default="table",
    show_default=True,
    help="For people or for programs.",
)
@control_options
def command(output: str, config_file: str, address: str | None) -> None:
    """Show what the running daemon has counted since it started: lookups, caches, databases, clients.

    Exit status: 0 shown, 64 wrong usage, 75 no daemon answers, 77 no permission.

    \b
    Example:
      mailmapd stats
      mailmapd stats --format json | jq .tables
    """
    with connect(config_file, address) as daemon:
        snapshot = cast("Snapshot", daemon.stats())
    if output == "json":
        click.echo(json.dumps(snapshot, indent=2))
        return
    from rich.console import Console

    from mailmapd.cli.stats_tables import stats_tables

    Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH).print(
        *stats_tables(snapshot), sep="\n"
    )
