"""Serving an aiohttp application on a bound socket, to as many clients and as long as `[limits]` allows."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from mailmapd.config.address import KEEP_FILE
from mailmapd.config.schema import LimitsSection
from mailmapd.web.http_client import HttpClient


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Return whether a line of aiohttp is about us, and not about a client whose request was no HTTP, or too long."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError)


# Seconds in which a client that is being answered may take the rest, and as many again until it is
# cut off
FINISH = 2.0
SWEEP_INTERVAL = 5.0  # seconds between looks for clients that take too long

log = logging.getLogger(__name__)
log.addFilter(_is_our_fault)


class HttpServer:
    """One application on one socket; `name` is the listener's.

    `limits` is asked for at each use: a reload may change it.

    `most` is the number of clients that is enough for this application, however many
    `limits.max_connections` would allow.
    """

    def __init__(
        self,
        app: web.Application,
        bound: socket.socket,
        name: str,
        limits: Callable[[], LimitsSection],
        *,
        most: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        app.middlewares.insert(0, self._take_request)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, logger=log, shutdown_timeout=FINISH
        )
        self._bound = bound
        self._name = name
        self._limits = limits
        self._most = most
        self._clock = clock
        self._clients: dict[asyncio.BaseTransport | None, HttpClient] = {}
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._full = False

    async def start(self) -> None:
        """Accept requests from now on."""
        await self._runner.setup()
        make = self._runner.server
        assert make is not None  # noqa: S101 (setup makes it)

        def client() -> HttpClient:
            return HttpClient(make, self._admit, self._left, self._clock)

        loop, backlog = asyncio.get_running_loop(), self._limits().backlog
        if self._bound.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(
                client, sock=self._bound, backlog=backlog, **KEEP_FILE
            )
        else:
            self._server = await loop.create_server(client, sock=self._bound, backlog=backlog)
        self._sweeper = loop.call_later(SWEEP_INTERVAL, self.sweep)

    async def close(self) -> None:
        """Finish what is being answered, briefly, and stop."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        await self._runner.cleanup()

    def sweep(self) -> None:
        """End the connections of clients that take too long, now and again after a while."""
        now, limits = self._clock(), self._limits()
        for client in list(self._clients.values()):
            reason = client.overdue(now, limits)
            if reason and client.transport is not None:
                log.info("listener %s: a client %s; connection closed", self._name, reason)
                client.transport.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_INTERVAL, self.sweep)

    @property
    def _room(self) -> int:
        most = self._limits().max_connections
        return most if self._most is None else min(most, self._most)

    def _admit(self, client: HttpClient) -> bool:
        if len(self._clients) >= self._room:
            if not self._full:
                log.error(
                    "listener %s: %d connections, the limit; more are refused",
                    self._name,
                    len(self._clients),
                )
            self._full = True
            return False
        self._clients[client.transport] = client
        return True

    def _left(self, client: HttpClient) -> None:
        del self._clients[client.transport]
        if len(self._clients) < self._room * 0.9:
            self._full = False

    @web.middleware
    async def _take_request(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Have the whole body before the request is answered; a client that does not send it is swept away."""
        client = self._clients.get(request.transport)
        if client is None:  # it has gone already
            return await handler(request)
        try:
            try:
                await request.read()
            except web.RequestPayloadError as error:
                raise web.HTTPBadRequest(text="The body is not what its head says.\n") from error
            finally:
                client.answer_begins()
            return await handler(request)
        finally:
            client.answer_ends()
