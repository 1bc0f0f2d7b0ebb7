"""`listen.http`: the status page, /metrics, /healthz and /readyz. Read-only.

`/healthz` is 200 while the process serves at all. `/readyz` is 200 when every database has a
reachable host and every table's query fits its schema, else 503; the body says what is wrong.

Anybody on this machine may ask, so what takes long to make is made at most once a second, however
many ask for it: see `Page`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from aiohttp import web

from mailmapd.web.page import Page
from mailmapd.web.shield import make_shield
from mailmapd.web.status_page import PATHS, status_routes
from mailmapd.web.status_view import StatusView


def operations_app(
    metrics: Callable[[], Iterator[bytes]],
    content_type: str,
    problems: Callable[[], list[str]],
    view: Callable[[], StatusView],
) -> web.Application:
    """Return the application.

    `metrics` gives the metrics piece by piece. `problems` names what keeps the daemon from answering
    everything, one line each. `view` is what the status page shows.
    """
    exposition = Page(metrics)

    async def serve_metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=await exposition.get(),
            headers={"Content-Type": content_type, "Cache-Control": "no-store"},
        )

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        found = problems()
        return web.Response(
            text="".join(f"{line}\n" for line in found) or "ready\n", status=503 if found else 200
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
