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

from mailmapd.web.status_page import status_routes
from mailmapd.web.status_view import StatusView
from support.busy_host import make_view
from support.chromium import Chromium

pytestmark = pytest.mark.servers

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


@asynccontextmanager
async def served(view: StatusView) -> AsyncIterator[str]:
    """Serve the page of a view, with its headers, and yield its address."""

    async def shown() -> StatusView:
        return view

    app = web.Application()
    app.add_routes(status_routes(shown))
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
