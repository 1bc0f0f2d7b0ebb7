"""Serving an aiohttp application on a socket that is already bound."""

from __future__ import annotations

import socket

from aiohttp import web


class HttpServer:
    """One application on one socket."""

    def __init__(self, app: web.Application, bound: socket.socket) -> None:
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        self._bound = bound

    async def start(self) -> None:
        """Accept requests from now on."""
        await self._runner.setup()
        await web.SockSite(self._runner, self._bound, backlog=128).start()

    async def close(self) -> None:
        """Finish what is being answered, briefly, and stop."""
        await self._runner.cleanup()
