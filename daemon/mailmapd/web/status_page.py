"""`/` and `/status.json` of `listen.http`: how the daemon is, for people and for programs.

Read-only, and without secrets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from aiohttp import web

from mailmapd.web.status_html import CONTENT_SECURITY_POLICY, status_html
from mailmapd.web.status_view import StatusView

PATHS = ("/", "/status.json")


def status_routes(view: Callable[[], StatusView]) -> list[web.RouteDef]:
    """Return the routes of the status page."""

    async def page(_: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
        return web.Response(text=status_html(view()), content_type="text/html", headers=headers)

    async def figures(_: web.Request) -> web.Response:
        shown = view()
        errors = [
            {"time": when, "level": level, "message": message}
            for when, level, message in shown.errors
        ]
        return web.json_response(
            {
                "snapshot": shown.snapshot,
                "activity": asdict(shown.activity),
                "minutes": [asdict(minute) for minute in shown.minutes],
                "errors": errors,
            }
        )

    return [web.get(path, handler) for path, handler in zip(PATHS, (page, figures), strict=True)]
