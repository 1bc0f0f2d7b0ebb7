"""`listen.http`: the status page, /metrics, /healthz and /readyz. Read-only.

`/healthz` is 200 while the process serves at all. `/readyz` is for balancers: 503 when some clients
get no answer (a listener that is not open, a database that has not been reached yet and of which
memory knows nothing). Serving from memory while a database is away is ready. `/readyz?databases` is
for alerts: 503 when anything is wrong. The body says what is wrong, in both.

Anybody on this machine may ask, so what takes long to make is made at most once a second, however
many ask for it: see `Page`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

from aiohttp import web

from mailmapd.web.page import Page
from mailmapd.web.shield import make_shield
from mailmapd.web.status_page import PATHS, status_routes
from mailmapd.web.status_view import StatusView


class Health(Protocol):
    """The daemon's health."""

    def hindrances(self) -> list[str]:
        """Return what keeps clients from being answered, one line each."""
        ...

    def problems(self) -> list[str]:
        """Return what is not as it should be, one line each."""
        ...


def operations_app(
    metrics: Callable[[], Iterator[bytes]],
    content_type: str,
    health: Health,
    view: Callable[[], Awaitable[StatusView]],
) -> web.Application:
    """Return the application.

    `metrics` gives the metrics piece by piece. `view` is what the status page shows.
    """
    exposition = Page(metrics)

    async def serve_metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=await exposition.get(),
            headers={"Content-Type": content_type, "Cache-Control": "no-store"},
        )

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        problems = health.problems()
        hindrances = health.hindrances()
        unready = problems if "databases" in request.query else hindrances
        lines = [] if unready else ["ready"]
        lines += [*hindrances, *(line for line in problems if line not in hindrances)]
        return web.Response(
            text="".join(f"{line}\n" for line in lines), status=503 if unready else 200
        )

    app = web.Application(client_max_size=1024, middlewares=[make_shield(PATHS)])
    app.add_routes(status_routes(view))
    app.add_routes(
        [
            web.get("/metrics", serve_metrics),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
        ]
    )
    return app
