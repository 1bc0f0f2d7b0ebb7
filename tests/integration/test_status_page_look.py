"""How the status page looks in a browser: on a phone and on a desk, in light and in dark, on a good
day and on a bad one.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from mailmapd.engine.meters import BUCKETS, LookupMeter
from mailmapd.engine.outcome import Source
from mailmapd.model import Found, NotFound, TempFail
from mailmapd.stats.activity import between
from mailmapd.stats.history import Minute
from mailmapd.stats.snapshot import CacheState, Snapshot, lookups_by_name
from mailmapd.web.status_page import status_routes
from mailmapd.web.status_view import StatusView
from support.chromium import Chromium

pytestmark = pytest.mark.servers

NOW = 1_790_000_000.0
PICTURES = os.environ.get("MAILMAPD_TESTS_PICTURES")  # a folder that keeps the pictures
SIZES = (360, 1280)

CUT = """
[...document.querySelectorAll('dd, td, figcaption b, figure p span, small')].filter(one => {
  const range = document.createRange();
  range.selectNodeContents(one);
  const text = range.getBoundingClientRect(), box = one.getBoundingClientRect();
  const number = /^[-\\d.\\s]*\\d(\\s?(%|µs|ms|s))?$/.test(one.textContent.trim());
  const lines = new Set([...range.getClientRects()].map(rect => Math.round(rect.top))).size;
  return box.width && (text.right > innerWidth + 0.5 || text.left < -0.5 || number && lines > 1);
}).map(one => one.textContent.trim()).concat([...document.querySelectorAll('dt')].filter(one => {
  const found = /\\d[\\d.]*\\s\\w+$/.exec(one.textContent);
  if (!found) return false;
  const range = document.createRange();
  range.setStart(one.firstChild, found.index);
  range.setEnd(one.firstChild, one.textContent.length);
  return new Set([...range.getClientRects()].map(rect => Math.round(rect.top))).size > 1;
}).map(one => one.textContent))
"""
"""Yields every text that leaves the screen, and every number that is broken into lines, its unit included."""


def _table(entries: int, absent: int) -> CacheState:
    return {
        "hits": 98_765_432,
        "negative_hits": 1_234_567,
        "stale": 0,
        "coalesced": 12,
        "misses": 654_321,
        "entries": entries,
        "negative_entries": absent,
        "max_entries": 1_000_000,
        "max_negative_entries": 200_000,
        "evictions": 0,
        "negative_evictions": 0,
        "schema_error": "",
        "invalidations": {"key": 0, "reverse": 0, "table": 0, "distrust": 0},
        "audits": {"same": 0, "outdated": 0, "failed": 0},
    }


def _snapshot(*, bad: bool) -> Snapshot:
    names = ("virtual_alias_maps", "virtual_mailbox_maps", "smtpd_sender_login_maps", "auth")
    meters = [LookupMeter("socketmap", name) for name in names]
    for place, meter in enumerate(meters):
        for _ in range(9_000 * (place + 1)):
            meter.count(Found(b"v"), Source.CACHE, 0.000004)
        for _ in range(120):
            meter.count(NotFound(), Source.DATABASE, 0.0012)
        if bad:
            meter.count(TempFail("away"), Source.DATABASE, 3.0)
            meter.count(Found(b"v"), Source.STALE, 0.00002)
    problem = "database mail: no host can be reached (db1.internal.example.net:3306: Can't connect)"
    return {
        "version": "0.1.0",
        "started": NOW - 86_400.0,
        "time": NOW,
        "config": {"file": "/etc/mailmapd/mailmapd.toml", "loaded": NOW, "reload_failed": False},
        "problems": [problem] if bad else [],
        "buckets": list(BUCKETS),
        "maps": lookups_by_name(meters[:3], dict.fromkeys(names[:3], 1_234_567)),
        "dicts": lookups_by_name(meters[3:], {"auth": 12}),
        "tables": {
            "alias": _table(812_345, 199_999),
            "a_table_whose_name_is_longer_than_a_phone_is_wide": _table(12, 0),
        },
        "feeds": [
            {
                "database": "mail",
                "host": "db1.internal.example.net:3306",
                "following": not bad,
                "reason": "the account may not read the log" if bad else "",
                "silence": 0.4,
                "last_change": 12.0,
                "counts": {"row": 1_234_567},
                "followed": ["alias"],
                "not_followed": {"vacation": "its answer depends on the function NOW()"},
            }
        ],
        "cluster": None,
        "databases": {
            "mail": {
                "hosts": [
                    {
                        "host": "unix:/run/mysqld/mysqld.sock",
                        "up": not bad,
                        "reached": True,
                        "idle": 7,
                        "busy": 1,
                        "last_error": "",
                    },
                    {
                        "host": "db2.internal.example.net:3306",
                        "up": not bad,
                        "reached": True,
                        "idle": 0,
                        "busy": 0,
                        "last_error": "",
                    },
                ],
                "queries": {"ok": 654_321} | ({"lost": 12} if bad else {}),
            }
        },
        "memory": {"max_bytes": 2**30, "bytes": {"positive": 2**20}},
        "listeners": {
            "socketmap": {
                "connections": 1234,
                "refused": 0,
                "protocol_errors": {},
                "unknown_names": 0,
            },
            "dict": {
                "connections": 30,
                "refused": 2,
                "protocol_errors": {"bad_hello": 1},
                "unknown_names": 0,
            },
        },
    }


def _minutes() -> list[Minute]:
    """An hour with a rush, and five minutes in which nobody asked."""
    found = []
    for place in range(60):
        rate = 0.0 if 20 <= place < 25 else 900.0 + 700.0 * (place % 13) / 13
        part = None if rate == 0 else 0.97 + 0.03 * (place % 7) / 7
        p99 = None if rate == 0 else 0.00002 + 0.0001 * (place % 11)
        found.append(Minute(NOW - 60.0 * (59 - place), rate, part, p99, rate * 2.4))
    return found


def make_view(*, bad: bool) -> StatusView:
    """A busy host; on a bad day its database is away."""
    snapshot = _snapshot(bad=bad)
    errors = (
        (NOW - 5.0, "error", "database mail: no host can be reached: " + "Can't connect " * 6),
        (NOW - 65.0, "warning", "slow lookup of virtual_alias_maps: 3.02 s"),
    )
    settings = [("database.mail", [("hosts", "unix:/run/mysqld/mysqld.sock, " * 4)])]
    return StatusView(
        snapshot, between(None, snapshot), _minutes(), settings, errors if bad else ()
    )


@asynccontextmanager
async def served(view: StatusView) -> AsyncIterator[str]:
    """Serve the page of a view, with its headers, and yield its address."""
    app = web.Application()
    app.add_routes(status_routes(lambda: view))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        await web.SockSite(runner, bound).start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}/"
        finally:
            await runner.cleanup()


@pytest.mark.timeout(120)
async def test_nothing_is_cut_on_any_screen(tmp_path: Path) -> None:
    """On a phone and on a desk, in light and in dark, no text leaves the screen and no number is broken."""
    async with Chromium(tmp_path) as browser:
        for bad in (False, True):
            async with served(make_view(bad=bad)) as address:
                for width in SIZES:
                    for dark in (False, True):
                        await browser.open(address, width=width, dark=dark)
                        if PICTURES:
                            name = f"status-{width}-{'dark' if dark else 'light'}-{'bad' if bad else 'good'}.png"
                            picture = await browser.picture()
                            await asyncio.to_thread(Path(PICTURES, name).write_bytes, picture)
                        assert await browser.evaluate(CUT) == []
                        wide = "document.documentElement.scrollWidth"
                        assert await browser.evaluate(wide) <= width
                        pictures = "document.querySelectorAll('figure svg').length"
                        assert await browser.evaluate(pictures) == 4


@pytest.mark.timeout(120)
async def test_errors_come_first(tmp_path: Path) -> None:
    """When something is wrong, that is what the page begins with; on a good day the errors are at the end."""
    first = "[...document.querySelectorAll('h2')].map(one => one.textContent)"
    async with Chromium(tmp_path) as browser:
        async with served(make_view(bad=True)) as address:
            await browser.open(address, width=360)
            assert (await browser.evaluate(first))[0] == "Recent errors"
            assert await browser.evaluate("document.querySelector('ul.bad').textContent")
        async with served(make_view(bad=False)) as address:
            await browser.open(address, width=360)
            assert (await browser.evaluate(first))[-1] == "Recent errors"


@pytest.mark.timeout(120)
async def test_colours_are_the_style_sheets(tmp_path: Path) -> None:
    """The policy lets the pictures have the page's colours, which differ between light and dark."""
    colour = "getComputedStyle(document.querySelector('path.line')).stroke"
    async with Chromium(tmp_path) as browser, served(make_view(bad=False)) as address:
        await browser.open(address, width=1280)
        light = await browser.evaluate(colour)
        await browser.open(address, width=1280, dark=True)
        dark = await browser.evaluate(colour)
    assert len({light, dark, "none", "rgb(0, 0, 0)"}) == 4
