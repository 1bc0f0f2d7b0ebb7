"""The status page as HTML: one page without outside resources, complete without scripts.

Every text is escaped; style and script are inline and named by their hashes in the
Content-Security-Policy, so nothing else can run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from importlib.resources import files

from mailmapd.stats.figures import as_age, as_bytes, as_count, as_rate, as_ratio
from mailmapd.web.status_pictures import hour
from mailmapd.web.status_tables import (
    changes,
    databases,
    errors,
    hosts,
    listeners,
    lookups,
    moment,
    tables,
)
from mailmapd.web.status_view import StatusView

_STYLE = files(__package__).joinpath("status_page.css").read_text(encoding="utf-8")
_SCRIPT = files(__package__).joinpath("status_page.js").read_text(encoding="utf-8")


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src {_source(_STYLE)}; script-src {_source(_SCRIPT)}; "
    "connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def status_html(view: StatusView) -> Iterator[str]:
    """Yield the page, piece by piece."""
    snapshot = view.snapshot
    up, window = as_age(snapshot["time"] - snapshot["started"]), as_age(view.activity.seconds)
    yield f"""<!DOCTYPE html>
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
<p>Up {up} · {moment(snapshot["time"])} · rates over the last {window}</p>
</header>
{_health(view)}
"""
    yield errors(view) if view.errors else ""
    yield _tiles(view)
    yield hour(view.minutes, snapshot["time"])
    yield lookups(view.activity)
    yield databases(view.activity)
    yield changes(view.snapshot)
    yield hosts(view)
    yield tables(view.activity)
    yield listeners(view)
    yield "" if view.errors else errors(view)
    yield f"""
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
    clients = sum(listener["connections"] for listener in view.snapshot["listeners"].values())
    avoided = sum(lookup.avoided_rate for lookup in activity.lookups)
    memory = view.snapshot["memory"]
    tiles = [
        ("lookups a second", as_rate(activity.rate)),
        ("answered from memory", as_ratio(activity.from_memory)),
        ("queries avoided a second", as_rate(avoided)),
        ("queries sent a second", as_rate(sum(database.rate for database in activity.databases))),
        ("clients", as_count(clients)),
        (
            f"remembered, of {as_bytes(memory['max_bytes']).replace(' ', '&nbsp;')}",
            as_bytes(sum(memory["bytes"].values())),
        ),
    ]
    return f'<dl class="tiles">{"".join(f"<div><dt>{name}</dt><dd>{figure}</dd></div>" for name, figure in tiles)}</dl>'


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
