"""Serving an aiohttp application on a socket that is already bound."""

from __future__ import annotations

import logging
import socket

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Return whether a line of aiohttp is about us, and not about a client whose request was no HTTP, or too long."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


FINISH = 2.0  # seconds in which a client that is being answered may take the rest, and as many again until it is cut off

log = logging.getLogger(__name__)
log.addFilter(_is_our_fault)


class HttpServer:
    """One application on one socket."""

    def __init__(self, app: web.Application, bound: socket.socket) -> None:
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, logger=log, shutdown_timeout=FINISH)
        self._bound = bound

    async def start(self) -> None:
        """Accept requests from now on."""
        await self._runner.setup()
        await web.SockSite(self._runner, self._bound, backlog=128).start()

    async def close(self) -> None:
        """Finish what is being answered, briefly, and stop."""
        await self._runner.cleanup()
