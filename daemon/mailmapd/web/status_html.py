"""The status page as HTML: one page without outside resources, complete without scripts.

Every text is escaped; style and script are inline and named by their hashes in the
Content-Security-Policy, so nothing else can run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from typing import NamedTuple

from mailmapd.stats.activity import Activity, LookupActivity, TableActivity
from mailmapd.stats.figures import as_age, as_count, as_latency, as_rate, as_ratio
from mailmapd.web.status_view import StatusView


class Cell(NamedTuple):
    """A cell of a table: its text, and its class."""

    text: str
    kind: str = ""


_STYLE = files(__package__).joinpath("status_page.css").read_text(encoding="utf-8")
_SCRIPT = files(__package__).joinpath("status_page.js").read_text(encoding="utf-8")


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src {_source(_STYLE)}; script-src {_source(_SCRIPT)}; "
    "connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def status_html(view: StatusView) -> str:
    """Return the page."""
    snapshot = view.snapshot
    up, window = as_age(snapshot["time"] - snapshot["started"]), as_age(view.activity.seconds)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>mailmapd</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<div id="live">
<header>
<h1>mailmapd <small>{escape(snapshot["version"])}</small></h1>
<p>Up {up} · {_moment(snapshot["time"])} · rates over the last {window}</p>
</header>
{_health(view)}
{_tiles(view)}
{_lookups(view.activity)}
{_databases(view.activity)}
{_tables(view.activity)}
{_listeners(view)}
{_errors(view)}
</div>
{_settings(view)}
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _health(view: StatusView) -> str:
    problems = view.snapshot["problems"]
    if not problems:
        return (
            '<p class="health good">Everything answers: all databases are up, all queries fit.</p>'
        )
    return f'<ul class="health bad">{"".join(f"<li>{escape(problem)}</li>" for problem in problems)}</ul>'


def _tiles(view: StatusView) -> str:
    activity = view.activity
    clients = sum(one["connections"] for one in view.snapshot["listeners"].values())
    avoided = sum(one.avoided_rate for one in activity.lookups)
    tiles = [
        ("lookups a second", as_rate(activity.rate)),
        ("answered from memory", as_ratio(activity.from_memory)),
        ("queries avoided a second", as_rate(avoided)),
        ("queries sent a second", as_rate(sum(one.rate for one in activity.databases))),
        ("clients", as_count(clients)),
    ]
    return f'<dl class="tiles">{"".join(f"<div><dt>{name}</dt><dd>{figure}</dd></div>" for name, figure in tiles)}</dl>'


def _lookups(activity: Activity) -> str:
    rows = [
        [
            Cell(one.name or "(no such map)", "name"),
            Cell("dict" if one.dict else "map", "word"),
            Cell(as_rate(one.rate)),
            Cell(as_ratio(one.from_memory)),
            Cell(as_latency(one.median)),
            Cell(as_latency(one.p99)),
            _alarm(one.stale_rate),
            _alarm(one.tempfail_rate),
        ]
        for one in sorted(activity.lookups, key=_by_name)
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


def _databases(activity: Activity) -> str:
    rows = []
    for one in activity.databases:
        for number, host in enumerate(one.hosts):
            state = Cell("up", "good") if host["up"] else Cell("down", "bad")
            rates = (
                [Cell(""), Cell("")]
                if number
                else [Cell(as_rate(one.rate)), _alarm(one.failure_rate)]
            )
            counts = [Cell(str(host["idle"])), Cell(str(host["busy"]))]
            rows.append(
                [
                    Cell("" if number else one.name, "name"),
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


def _tables(activity: Activity) -> str:
    rows = [
        [
            Cell(one.name, "name"),
            Cell(as_rate(one.rate)),
            Cell(as_ratio(one.from_memory)),
            Cell(as_count(one.state["entries"])),
            Cell(as_count(one.state["negative_entries"])),
            _alarm(one.eviction_rate),
        ]
        for one in sorted(activity.tables, key=_by_name)
    ]
    return _section(
        "Caches", ["Table", "Asked/s", "From memory", "Rows", "Absent", "Evicted/s"], rows
    )


def _listeners(view: StatusView) -> str:
    rows = []
    for name, one in view.snapshot["listeners"].items():
        errors = sum(one["protocol_errors"].values())
        refused = Cell(as_count(one["refused"]), "bad" if one["refused"] else "")
        rows.append(
            [
                Cell(name, "name"),
                Cell(as_count(one["connections"])),
                refused,
                Cell(as_count(errors), "bad" if errors else ""),
            ]
        )
    return _section("Listeners", ["Name", "Clients", "Refused", "Protocol errors"], rows)


def _errors(view: StatusView) -> str:
    if not view.errors:
        return "<section><h2>Recent errors</h2><p>None since the start.</p></section>"
    rows = [
        [Cell(_moment(when), "word"), Cell(level, level), Cell(message, "text")]
        for when, level, message in view.errors
    ]
    return _section("Recent errors", ["Time", "Level", "Message"], rows, words=3)


def _settings(view: StatusView) -> str:
    parts = []
    for name, settings in view.settings:
        lines = "".join(
            f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in settings
        )
        parts.append(
            f"<h3>[{escape(name)}]</h3><dl class=settings>{lines}</dl>"
            if name
            else f"<dl class=settings>{lines}</dl>"
        )
    return f"<details><summary>Configuration in effect</summary>{''.join(parts)}</details>"


def _section(
    title: str, heads: Sequence[str], rows: Iterable[Sequence[Cell]], words: int = 1
) -> str:
    head = "".join(
        f"<th{' class=word' if place < words else ''}>{name}</th>"
        for place, name in enumerate(heads)
    )
    body = "".join(
        f"<tr>{''.join(_cell(cell, place < words) for place, cell in enumerate(row))}</tr>"
        for row in rows
    )
    return (
        f"<section><h2>{title}</h2><div "
        f"class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _cell(cell: Cell, word: bool) -> str:
    kinds = " ".join(kind for kind in ("word" if word else "", cell.kind) if kind)
    return f'<td class="{kinds}">{escape(cell.text)}</td>'


def _by_name(one: LookupActivity | TableActivity) -> str:
    """Order rows so that they stay where they are while their figures change."""
    return one.name


def _alarm(rate: float) -> Cell:
    return Cell(as_rate(rate), "bad") if rate else Cell("0")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
