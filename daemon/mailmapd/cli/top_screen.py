"""The screen of `top`: drawn from two snapshots, anew after each interval, until a key ends it."""

from __future__ import annotations

import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from mailmapd.cli.stats_tables import fleet_table, host_rows, plain_table, shown_name
from mailmapd.control.client import ControlError
from mailmapd.stats import fleet
from mailmapd.stats.activity import Activity, between
from mailmapd.stats.figures import as_age, as_count, as_latency, as_rate, as_ratio
from mailmapd.stats.freshness import heard, sentences

if TYPE_CHECKING:
    from mailmapd.control.client import ControlClient
    from mailmapd.stats.snapshot import MemberState, Snapshot

_QUIT_KEYS = ("q", "Q", "\x03", "\x04", "")
_TABLE_FRAME = 3  # lines of a table beside its rows: heading, rule, and the empty line after it
_MIN_ROWS = 3
_MAX_HOSTS = 6
_FLEET = ("Host", "Heard of", "Queries", "Memory", "Last flush", "Proven")


def watch(daemon: ControlClient, interval: float) -> None:
    """Show the daemon until somebody presses q. Raises ControlError when it goes away."""
    console = Console(highlight=False)
    before = cast("Snapshot", daemon.stats())
    with (
        _keys(),
        Live(
            screen(before, between(None, before), _members(daemon, before), console.height),
            console=console,
            screen=True,
            auto_refresh=False,
        ) as live,
    ):
        deadline = time.monotonic() + min(interval, 0.5)  # the first rates soon
        while not _quit(deadline):
            after = cast("Snapshot", daemon.stats())
            members = _members(daemon, after)
            live.update(
                screen(after, between(before, after), members, console.height), refresh=True
            )
            before = after
            deadline = time.monotonic() + interval


def _members(daemon: ControlClient, snapshot: Snapshot) -> Mapping[str, MemberState]:
    """Return the hosts of the fleet, or none while nobody knows them: then the problems say why."""
    if snapshot["cluster"] is None or not snapshot["cluster"]["up"]:
        return {}
    try:
        return cast("Mapping[str, MemberState]", daemon.members())
    except ControlError as error:
        if error.word in ("unavailable", "bad_request"):
            return {}
        raise


def screen(
    snapshot: Snapshot, activity: Activity, members: Mapping[str, MemberState], height: int
) -> RenderableType:
    """Return everything that fits into `height` lines, the busiest maps first, and of a fleet what stands out."""
    problems = [
        Text(problem, "bold red", no_wrap=True, overflow="ellipsis")
        for problem in snapshot["problems"]
    ]
    hosts = min(sum(len(database.hosts) for database in activity.databases), _MAX_HOSTS)
    changes = [
        Text(text, "dim", no_wrap=True, overflow="ellipsis") for text in _changes(snapshot, members)
    ]
    fleet_rows = _fleet_rows(snapshot, members)
    left = height - 3 - len(problems) - len(changes) - hosts - 2 * _TABLE_FRAME
    left -= len(fleet_rows) + _TABLE_FRAME if fleet_rows else 0
    maps = max(min(len(activity.lookups), left), _MIN_ROWS)
    tables = min(len(activity.tables), left - maps - _TABLE_FRAME)
    parts: list[RenderableType] = [_heading(snapshot, activity), *problems, *changes]
    parts.append(Text("q quits", "dim"))
    parts += [_lookups(activity, maps), Text(), _databases(activity)]
    if fleet_rows:
        parts += [Text(), fleet_table(_FLEET, fleet_rows)]
    if tables >= min(_MIN_ROWS, len(activity.tables)):
        parts += [Text(), _tables(activity, tables)]
    return Group(*parts)


def _heading(snapshot: Snapshot, activity: Activity) -> Text:
    clients = sum(listener["connections"] for listener in snapshot["listeners"].values())
    return Text.assemble(
        (f"mailmapd {snapshot['version']}", "bold"),
        f"  up {as_age(snapshot['time'] - snapshot['started'])}  ",
        (f"{as_rate(activity.rate)} lookups/s", "bold cyan"),
        f"  {as_ratio(activity.from_memory)} from memory  {as_count(clients)} clients",
        no_wrap=True,
        overflow="ellipsis",
    )


def _changes(snapshot: Snapshot, members: Mapping[str, MemberState]) -> Iterator[str]:
    """Yield a line for the changes of each host, what was forgotten and audited, not followed, and the fleet."""
    for feed in snapshot["feeds"]:
        text = f"changes not followed: {feed['reason']}"
        if feed["following"]:
            silent, changed = heard(feed)
            text = f"changes followed, heard of {silent} ago, last change {changed}"
        yield f"{feed['database']} {feed['host']}: {text}"
    yield from islice(sentences(snapshot), 2)
    tables = sorted({name for feed in snapshot["feeds"] for name in feed["not_followed"]})
    if tables:
        yield f"Tables that are not followed (`mailmapd stats` says why): {', '.join(tables)}"
    if words := fleet.summary(snapshot, members):
        yield f"fleet: {words}"


def _fleet_rows(
    snapshot: Snapshot, members: Mapping[str, MemberState]
) -> list[Sequence[fleet.Figure]]:
    """Return a few hosts, those that stand out first."""
    places = [fleet.HEADS.index(head) for head in _FLEET]
    rows = [[row[place] for place in places] for row in fleet.rows(snapshot, members)]
    rows.sort(key=lambda row: -sum(figure.odd for figure in row))
    return list(rows[:_MAX_HOSTS])


def _lookups(activity: Activity, rows: int) -> RenderableType:
    lines = [
        (
            shown_name(lookup),
            as_rate(lookup.rate),
            as_ratio(lookup.from_memory),
            as_latency(lookup.median),
            as_latency(lookup.p99),
            _alarming(lookup.stale_rate, "yellow"),
            _alarming(lookup.tempfail_rate, "bold red"),
        )
        for lookup in activity.lookups[:rows]
    ]
    return plain_table(("MAP", "LOOKUPS/S", "MEMORY", "P50", "P99", "STALE/S", "TEMPFAIL/S"), lines)


def _databases(activity: Activity) -> RenderableType:
    lines: list[tuple[str | Text, ...]] = []
    for database in activity.databases:
        lines += host_rows(
            database.name,
            database.hosts,
            (as_rate(database.rate), _alarming(database.failure_rate, "bold red")),
        )
    return plain_table(
        ("DATABASE", "HOST", "STATE", "IDLE", "BUSY", "QUERIES/S", "FAILED/S"),
        lines[:_MAX_HOSTS],
        left=2,
    )


def _tables(activity: Activity, rows: int) -> RenderableType:
    lines = []
    for table in activity.tables[:rows]:
        entries = (as_count(table.state["entries"]), as_count(table.state["negative_entries"]))
        lines.append(
            (
                table.name,
                as_rate(table.rate),
                as_ratio(table.from_memory),
                *entries,
                _alarming(table.eviction_rate, "yellow"),
            )
        )
    return plain_table(("TABLE", "ASKED/S", "MEMORY", "ROWS", "ABSENT", "EVICTED/S"), lines)


def _alarming(rate: float, style: str) -> Text:
    return Text(as_rate(rate), style) if rate else Text("0")


@contextmanager
def _keys() -> Iterator[None]:
    """Read keys one by one, without showing them."""
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _quit(deadline: float) -> bool:
    """Wait until the deadline; return True when a key that quits came first."""
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin], [], [], left)
        if ready and sys.stdin.read(1) in _QUIT_KEYS:
            return True
    return False
