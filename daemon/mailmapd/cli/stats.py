"""`mailmapd stats`: the running daemon's counters, as tables or JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, cast

import click

from mailmapd.cli.control import ControlCommand, connect, control_options
from mailmapd.cli.output import say_lines

if TYPE_CHECKING:
    from mailmapd.stats.snapshot import MemberState, Snapshot

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
@click.option("--cluster", is_flag=True, help="The hosts of the fleet, as each says of itself.")
@control_options
def command(*, output: str, cluster: bool, config_file: str, address: str | None) -> None:
    """Show what the running daemon has counted since it started: lookups, caches, databases, clients.

    With --cluster the hosts that share its stream: how long ago each was heard of and knew that it had missed nothing,
    its version, how many questions memory has answered, how many tables it keeps for long, and whether its queries are
    those of this host.

    Exit status: 0 shown, 64 wrong usage, 75 no daemon (or no server of the fleet) answers, 77 no permission.

    \b
    Example:
      mailmapd stats
      mailmapd stats --format json | jq .tables
      mailmapd stats --cluster
    """
    with connect(config_file, address) as daemon:
        snapshot = cast("Snapshot", daemon.stats())
        members = cast("dict[str, MemberState]", daemon.members()) if cluster else {}
    if output == "json":
        say_lines(json.dumps(members if cluster else snapshot, indent=2))
        return
    from rich.console import Console

    from mailmapd.cli.stats_tables import cluster_tables, stats_tables

    Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH).print(
        *(cluster_tables(snapshot, members) if cluster else stats_tables(snapshot)), sep="\n"
    )
