"""Counters as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mailmapd.stats import fleet
from mailmapd.stats.activity import Activity, LookupActivity, between
from mailmapd.stats.figures import as_age, as_bytes, as_count, as_latency, as_ratio
from mailmapd.stats.freshness import heard, sentences
from mailmapd.stats.snapshot import (
    ClusterState,
    HostState,
    MemberState,
    SecondLevelState,
    Snapshot,
)

UNKNOWN_MAP = "(no such map)"


def plain_table(
    columns: Sequence[str], rows: Iterable[Sequence[str | Text]], left: int = 1
) -> Table:
    """Return a table.

    Its first `left` columns are words, which are cut where the screen is narrow, the others
    numbers, which are not.
    """
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True, header_style="bold"
    )
    for place, name in enumerate(columns):
        word = place < left
        table.add_column(_in_one_line(name), justify="left" if word else "right", no_wrap=not word)
    for row in rows:
        table.add_row(
            *[_in_one_line(cell) if place < left else cell for place, cell in enumerate(row)]
        )
    return table


def _in_one_line(text: str | Text) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis") if isinstance(text, str) else text


def shown_name(lookup: LookupActivity) -> str:
    """Return the name of a map, or of a dict marked as such."""
    return f"{lookup.name} (dict)" if lookup.dict else lookup.name or UNKNOWN_MAP


def host_word(host: HostState) -> Text:
    """Return whether a host is up."""
    if host["up"]:
        return Text("up", "green")
    return Text("DOWN" if host["reached"] else "not reached yet", "bold red")


def stats_tables(snapshot: Snapshot) -> Iterator[RenderableType]:
    """Yield everything that was counted since the start."""
    activity = between(None, snapshot)
    running = as_age(snapshot["time"] - snapshot["started"])
    memory = snapshot["memory"]
    yield Text.assemble(
        (f"mailmapd {snapshot['version']}", "bold"),
        f", running for {running}, {as_ratio(activity.from_memory)} from memory, "
        f"{as_bytes(sum(memory['bytes'].values()))} of {as_bytes(memory['max_bytes'])} remembered",
    )
    yield from (Text(problem, "bold red") for problem in snapshot["problems"])
    yield Text()
    yield _lookups(snapshot, activity)
    yield Text()
    yield _tables(snapshot, activity)
    yield Text()
    yield _databases(snapshot)
    yield Text()
    if snapshot["feeds"]:
        yield _feeds(snapshot)
        yield from map(Text, sentences(snapshot))
        yield Text()
    if snapshot["cluster"] is not None:
        yield _cluster(snapshot["cluster"])
        if snapshot["cluster"]["second_level"] is not None:
            yield _second_level(snapshot["cluster"]["second_level"])
        yield Text()
    yield _listeners(snapshot)


def _lookups(snapshot: Snapshot, activity: Activity) -> Table:
    rows = []
    for lookup in activity.lookups:
        lookups = snapshot["dicts" if lookup.dict else "maps"][lookup.name]
        results = lookups["results"]
        counts = (results["found"], results["notfound"], results["tempfail"] + results["permfail"])
        latencies = (as_latency(lookup.median), as_latency(lookup.p99))
        rows.append(
            (
                shown_name(lookup),
                *map(as_count, counts),
                as_ratio(lookup.from_memory),
                *latencies,
                as_count(lookups["avoided"]),
            )
        )
    return plain_table(
        ("MAP", "FOUND", "NOT FOUND", "FAILED", "MEMORY", "P50", "P99", "AVOIDED"), rows
    )


def _tables(snapshot: Snapshot, activity: Activity) -> Table:
    shares = {table.name: table.from_memory for table in activity.tables}
    rows = []
    for name, table in snapshot["tables"].items():
        entries = (
            table["entries"],
            table["negative_entries"],
            table["evictions"] + table["negative_evictions"],
        )
        questions = (table["stale"], table["coalesced"], table["misses"])
        rows.append(
            (name, *map(as_count, entries), as_ratio(shares[name]), *map(as_count, questions))
        )
    return plain_table(
        ("TABLE", "ROWS", "ABSENT", "EVICTED", "MEMORY", "STALE", "SHARED", "QUERIES"), rows
    )


def _feeds(snapshot: Snapshot) -> Table:
    rows = []
    for feed in snapshot["feeds"]:
        word = Text("yes", "green") if feed["following"] else Text(f"no: {feed['reason']}")
        figures = (
            as_count(len(feed["followed"])),
            as_count(len(feed["not_followed"])),
            as_count(feed["counts"].get("row", 0)),
            *heard(feed),
        )
        rows.append((feed["database"], feed["host"], word, *figures))
    columns = ("CHANGES", "HOST", "FOLLOWED", "TABLES", "NOT", "ROWS", "SILENT", "CHANGED")
    return plain_table(columns, rows, left=3)


def _cluster(cluster: ClusterState) -> Table:
    word = Text("yes", "green") if cluster["up"] else Text(f"no: {cluster['reason']}", "bold red")
    row = (
        cluster["host"],
        word,
        ", ".join(cluster["followers"]) or "nobody",
        as_count(sum(len(tables) for tables in cluster["watched"].values())),
        as_count(cluster["messages"]["received"]),
        as_count(cluster["messages"]["sent"]),
        as_count(cluster["gaps"]),
        as_age(cluster["lag"]),
    )
    columns = ("CLUSTER", "JOINED", "FOLLOWERS", "TABLES", "HEARD", "SAID", "GAPS", "PROVEN")
    return plain_table(columns, [row], left=3)


def _second_level(state: SecondLevelState) -> Table:
    word = Text("yes", "green") if state["up"] else Text(f"no: {state['reason']}", "bold red")
    answers, shared = state["answers"], state["shared"]
    row = (
        "answers",
        word,
        as_count(answers["hit"]),
        as_count(answers["miss"] + answers["disbelieved"]),
        as_count(answers["stale"]),
        as_count(answers["late"]),
        as_count(answers["garbage"]),
        as_count(shared["filled"]),
        as_count(shared["refused"] + shared["dropped"]),
    )
    columns = ("SHARED", "ASKED", "HITS", "MISSES", "STALE", "LATE", "GARBAGE", "TOLD", "NOT TOLD")
    return plain_table(columns, [row], left=2)


def cluster_tables(
    snapshot: Snapshot, members: Mapping[str, MemberState]
) -> Iterator[RenderableType]:
    """Yield the hosts of the fleet; what differs from this host stands out."""
    yield fleet_table(fleet.HEADS, fleet.rows(snapshot, members))


def fleet_table(heads: Sequence[str], rows: Iterable[Sequence[fleet.Figure]]) -> Table:
    """Return hosts of the fleet as a table."""
    lines: list[list[str | Text]] = [
        [row[0].text, *[Text(figure.text, "bold red" if figure.odd else "") for figure in row[1:]]]
        for row in rows
    ]
    return plain_table([head.upper() for head in heads], lines)


def host_rows(
    name: str, hosts: list[HostState], figures: tuple[str | Text, ...]
) -> Iterator[tuple[str | Text, ...]]:
    """Yield a row for each host of a database; its name and figures stand in the first one."""
    for number, host in enumerate(hosts):
        state = (host["host"], host_word(host), str(host["idle"]), str(host["busy"]))
        yield ("", *state, *[""] * len(figures)) if number else (name, *state, *figures)


def _databases(snapshot: Snapshot) -> Table:
    rows: list[tuple[str | Text, ...]] = []
    for name, database in snapshot["databases"].items():
        total, good = sum(database["queries"].values()), database["queries"].get("ok", 0)
        rows += host_rows(name, database["hosts"], (as_count(total), as_count(total - good)))
    return plain_table(
        ("DATABASE", "HOST", "STATE", "IDLE", "BUSY", "QUERIES", "FAILED"), rows, left=2
    )


def _listeners(snapshot: Snapshot) -> Table:
    rows = [
        (
            name,
            as_count(listener["connections"]),
            as_count(listener["refused"]),
            as_count(sum(listener["protocol_errors"].values())),
        )
        for name, listener in snapshot["listeners"].items()
    ]
    return plain_table(("LISTENER", "CLIENTS", "REFUSED", "PROTOCOL ERRORS"), rows)
