"""`/` and `/status.json` of `listen.http`: how the daemon is, for people and for programs.

Read-only, and without secrets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict

from aiohttp import web

from mailmapd.web.page import Page
from mailmapd.web.status_html import CONTENT_SECURITY_POLICY, status_html
from mailmapd.web.status_view import StatusView

PATHS = ("/", "/status.json")


def status_routes(view: Callable[[], StatusView]) -> list[web.RouteDef]:
    """Return the routes of the status page."""

    def markup() -> Iterator[bytes]:
        shown = view()
        yield b""
        for part in status_html(shown):
            yield part.encode("utf-8", "backslashreplace")

    def members() -> Iterator[bytes]:
        shown = view()
        errors = [
            {"time": when, "level": level, "message": message}
            for when, level, message in shown.errors
        ]
        parts = {
            "snapshot": shown.snapshot,
            "activity": asdict(shown.activity),
            "minutes": [asdict(minute) for minute in shown.minutes],
            "errors": errors,
        }
        for number, (name, part) in enumerate(parts.items()):
            yield b'%b"%b": %b' % (
                b", " if number else b"{",
                name.encode(),
                json.dumps(part).encode(),
            )
        yield b"}\n"

    page, figures = Page(markup), Page(members)

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
