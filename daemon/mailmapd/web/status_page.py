"""`/` and `/status.json` of `listen.http`: how the daemon is, for people and for programs.

Read-only, and without secrets.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict

from aiohttp import web

from mailmapd.web.page import Page
from mailmapd.web.status_html import CONTENT_SECURITY_POLICY, status_html
from mailmapd.web.status_view import StatusView

PATHS = ("/", "/status.json")


def status_routes(view: Callable[[], Awaitable[StatusView]]) -> list[web.RouteDef]:
    """Return the routes of the status page."""
    page, figures = _page_of(view, _markup), _page_of(view, _members)

    async def serve_page(_: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
        return web.Response(
            body=await page.get(), content_type="text/html", charset="utf-8", headers=headers
        )

    async def serve_figures(_: web.Request) -> web.Response:
        return web.Response(
            body=await figures.get(), content_type="application/json", charset="utf-8"
        )

    return [
        web.get(path, handler)
        for path, handler in zip(PATHS, (serve_page, serve_figures), strict=True)
    ]


def _page_of(
    view: Callable[[], Awaitable[StatusView]], pieces: Callable[[StatusView], Iterator[bytes]]
) -> Page:
    shown: list[StatusView] = []

    async def prepare() -> None:
        shown[:] = [await view()]

    def make() -> Iterator[bytes]:
        yield b""
        yield from pieces(shown[0])

    return Page(make, prepare=prepare)


def _markup(view: StatusView) -> Iterator[bytes]:
    for part in status_html(view):
        yield part.encode("utf-8", "backslashreplace")


def _members(view: StatusView) -> Iterator[bytes]:
    errors = [
        {"time": when, "level": level, "message": message} for when, level, message in view.errors
    ]
    parts = {
        "snapshot": view.snapshot,
        "activity": asdict(view.activity),
        "minutes": [asdict(minute) for minute in view.minutes],
        "fleet": view.members,
        "errors": errors,
    }
    for number, (name, part) in enumerate(parts.items()):
        yield b'%b"%b": %b' % (
            b", " if number else b"{",
            name.encode(),
            json.dumps(part).encode(),
        )
    yield b"}\n"
