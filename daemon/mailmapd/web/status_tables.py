"""The tables of the status page: what was asked, of whom, from which memory, and what went wrong.

On a narrow screen the style sheet shows each row as a card, where `data-head` names every figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import NamedTuple

from mailmapd.stats import fleet
from mailmapd.stats.activity import Activity, LookupActivity, TableActivity
from mailmapd.stats.figures import as_count, as_latency, as_rate, as_ratio
from mailmapd.stats.freshness import heard, sentences
from mailmapd.stats.snapshot import Snapshot
from mailmapd.web.status_pictures import fill
from mailmapd.web.status_view import StatusView

_SHOWN_RATE = 0.1  # the smallest rate that has a figure of its own


class Cell(NamedTuple):
    """A cell of a table: its text, its class, and the part of its limit that a count has reached."""

    text: str
    kind: str = ""
    limit: str = ""
    part: float | None = None


def lookups(activity: Activity) -> str:
    """Return what was asked of each map and dict."""
    rows = [
        [
            Cell(lookup.name or "(no such map)", "name"),
            Cell("dict" if lookup.dict else "map", "word"),
            Cell(as_rate(lookup.rate)),
            Cell(as_ratio(lookup.from_memory)),
            Cell(as_latency(lookup.median)),
            Cell(as_latency(lookup.p99)),
            _alarm(lookup.stale_rate),
            _alarm(lookup.tempfail_rate),
        ]
        for lookup in sorted(activity.lookups, key=_by_name)
    ]
    heads = [
        "Name",
        "Kind",
        "Lookups/s",
        "From memory",
        "Median",
        "99 %",
        "Stale/s",
        "Temporary failures/s",
    ]
    return _section("Lookups", heads, rows, words=2)


def databases(activity: Activity) -> str:
    """Return the hosts of each database and what they were asked."""
    rows = []
    for database in activity.databases:
        for number, host in enumerate(database.hosts):
            down = "down" if host["reached"] else "not reached yet"
            state = Cell("up", "good") if host["up"] else Cell(down, "bad")
            rates = (
                [Cell(""), Cell("")]
                if number
                else [Cell(as_rate(database.rate)), _alarm(database.failure_rate)]
            )
            counts = [Cell(str(host["idle"])), Cell(str(host["busy"]))]
            rows.append(
                [
                    Cell("" if number else database.name, "name"),
                    Cell(host["host"], "name"),
                    state,
                    *counts,
                    *rates,
                ]
            )
    return _section(
        "Databases",
        ["Name", "Host", "State", "Idle", "Busy", "Queries/s", "Failed/s"],
        rows,
        words=3,
    )


def changes(snapshot: Snapshot) -> str:
    """Return how the changes of each host are followed, and what that has come to."""
    if not snapshot["feeds"]:
        return ""
    rows = []
    for feed in snapshot["feeds"]:
        state = Cell("yes", "good") if feed["following"] else Cell(f"no: {feed['reason']}", "text")
        figures = [Cell(as_count(feed["counts"].get("row", 0))), *map(Cell, heard(feed))]
        rows.append([Cell(feed["database"], "name"), Cell(feed["host"], "name"), state, *figures])
    heads = ["Database", "Host", "Followed", "Rows", "Silent for", "Last change"]
    words = "".join(f"<p>{escape(text)}</p>" for text in sentences(snapshot))
    return _section("Changes", heads, rows, words=3) + words


def hosts(view: StatusView) -> str:
    """Return the hosts of the fleet, as each says of itself."""
    words = fleet.summary(view.snapshot, view.members)
    if not words:
        return ""
    if not view.members:
        return f"<section><h2>Fleet</h2><p>{escape(words)}</p></section>"
    rows = [
        [
            Cell(row[0].text, "name wraps"),
            *[Cell(figure.text, "bad wraps" if figure.odd else "wraps") for figure in row[1:]],
        ]
        for row in fleet.rows(view.snapshot, view.members)
    ]
    return _section("Fleet", fleet.HEADS, rows, words=5) + f"<p>{escape(words)}</p>"


def tables(activity: Activity) -> str:
    """Return the cache of each table, and how full it is."""
    rows = [
        [
            Cell(table.name, "name"),
            Cell(as_rate(table.rate)),
            Cell(as_ratio(table.from_memory)),
            _filled(table.state["entries"], table.state["max_entries"]),
            _filled(table.state["negative_entries"], table.state["max_negative_entries"]),
            _alarm(table.eviction_rate),
        ]
        for table in sorted(activity.tables, key=_by_name)
    ]
    return _section(
        "Caches", ["Table", "Asked/s", "From memory", "Rows", "Absent", "Evicted/s"], rows
    )


def listeners(view: StatusView) -> str:
    """Return the clients of each listener."""
    rows = []
    for name, listener in view.snapshot["listeners"].items():
        errors = sum(listener["protocol_errors"].values())
        refused = Cell(as_count(listener["refused"]), "bad" if listener["refused"] else "")
        rows.append(
            [
                Cell(name, "name"),
                Cell(as_count(listener["connections"])),
                refused,
                Cell(as_count(errors), "bad" if errors else ""),
            ]
        )
    return _section("Listeners", ["Name", "Clients", "Refused", "Protocol errors"], rows)


def errors(view: StatusView) -> str:
    """Return the last lines of the log that tell of something wrong."""
    if not view.errors:
        return "<section><h2>Recent errors</h2><p>None since the start.</p></section>"
    rows = [
        [Cell(moment(when), "word"), Cell(level, level), Cell(message, "text")]
        for when, level, message in view.errors
    ]
    return _section("Recent errors", ["Time", "Level", "Message"], rows, words=3)


def _section(
    title: str, heads: Sequence[str], rows: Iterable[Sequence[Cell]], words: int = 1
) -> str:
    head = "".join(
        f"<th{' class=word' if place < words else ''}>{name}</th>"
        for place, name in enumerate(heads)
    )
    body = "".join(
        f"<tr>{''.join(_cell(cell, place < words, heads[place]) for place, cell in enumerate(row))}</tr>"
        for row in rows
    )
    return (
        f"<section><h2>{title}</h2><div "
        f"class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _cell(cell: Cell, word: bool, head: str) -> str:
    kinds = " ".join(kind for kind in ("word" if word else "", cell.kind) if kind)
    text = escape(cell.text)
    if cell.part is not None:
        text = f"<span>{text} <small>of {escape(cell.limit)}</small></span>{fill(cell.part)}"
    return f'<td class="{kinds}" data-head="{head}">{text}</td>'


def _filled(count: int, limit: int) -> Cell:
    """Return a count of entries with the room that there is for them."""
    return Cell(as_count(count), "filled", as_count(limit), count / limit)


def _by_name(row: LookupActivity | TableActivity) -> str:
    """Order rows so that they stay where they are while their figures change."""
    return row.name


def _alarm(rate: float) -> Cell:
    """Return the rate of something that should not happen; however rare, it is not shown as none."""
    if not rate:
        return Cell("0")
    return Cell(as_rate(rate) if rate >= _SHOWN_RATE else f"< {_SHOWN_RATE}", "bad")


def moment(seconds: float) -> str:
    """Return a time as people read it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
