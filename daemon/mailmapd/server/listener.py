"""Listeners: one socket, one protocol, and the connections that came through it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from mailmapd.config.address import KEEP_FILE
from mailmapd.config.schema import LimitsSection, ListenAddress
from mailmapd.engine.meters import ClientMeter
from mailmapd.errors import ProtocolError
from mailmapd.server.connection import Connection
from mailmapd.server.conversation import Conversation
from mailmapd.sockets.peers import Peers

log = logging.getLogger(__name__)

SWEEP_INTERVAL = 5.0  # seconds between looks for idle and stalled connections


class Listener:
    """Serves one address.

    `name` is the configured one (``socketmap``, ``dict``, ``tcp_table.MAP``); several listeners may
    share it.

    They share its meter, too, which outlives a reload that takes listeners away. `start` may be
    called once; `stop_accepting`, `drain` and `close` any number of times, in this order.
    """

    def __init__(
        self,
        name: str,
        entry: ListenAddress,
        bound: socket.socket,
        *,
        converse: Callable[[], Conversation],
        limits: LimitsSection,
        clock: Callable[[], float],
        meter: ClientMeter | None = None,
    ) -> None:
        self.name = name
        self.entry = entry
        self.clock = clock
        self.connections: set[Connection] = set()
        self.meter = meter or ClientMeter()
        self._bound = bound
        self._converse = converse
        self.limits = limits
        self._peers = Peers(entry.peers)
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._full = False
        self._draining = False

    async def start(self) -> None:
        """Accept clients from now on."""
        loop = asyncio.get_running_loop()
        backlog = self.limits.backlog

        def connection() -> Connection:
            return Connection(self, self._converse())

        if self._bound.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(
                connection, sock=self._bound, backlog=backlog, **KEEP_FILE
            )
        else:
            self._server = await loop.create_server(connection, sock=self._bound, backlog=backlog)
        self._sweeper = loop.call_later(SWEEP_INTERVAL, self._sweep)

    def admit(self, connection: Connection, transport: asyncio.Transport) -> bool:
        """Take the client in, or return False: there are too many, or it is not one of the peers."""
        if len(self.connections) >= self.limits.max_connections:
            self.meter.refused += 1
            if not self._full:
                log.error(
                    "listener %s: %d connections, the limit; more are refused (raise limits.max_connections)",
                    self.name,
                    len(self.connections),
                )
            self._full = True
            return False
        refusal = self._peers.refusal(transport.get_extra_info("socket")) if self._peers else ""
        if refusal:
            self.meter.refused += 1
            log.warning("listener %s: refused %s, who is not one of its peers", self.name, refusal)
            return False
        self.connections.add(connection)
        if self._draining:
            connection.drain()  # accepted a moment before the socket was closed
        return True

    def departed(self, connection: Connection) -> None:
        """Forget a client that is gone."""
        self.connections.discard(connection)
        if self._full and len(self.connections) < self.limits.max_connections * 0.9:
            self._full = False

    def violated(self, error: ProtocolError) -> None:
        """Count and log a violation of the protocol; the connection ends, so this happens once for each."""
        self.meter.violations[error.reason] += 1
        log.warning("listener %s: protocol error, connection closed: %s", self.name, error)

    def stop_accepting(self) -> None:
        """Accept no more clients. The socket file stays: another listener may have the socket, too."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def drain(self) -> None:
        """Let every connection end, none with a question that stays open."""
        self._draining = True
        for connection in list(self.connections):
            connection.drain()

    def close(self) -> None:
        """End every connection now."""
        for connection in list(self.connections):
            connection.abort()

    def _sweep(self) -> None:
        now = self.clock()
        for connection in list(self.connections):
            quiet = now - connection.last_activity
            if connection.stalled and quiet > self.limits.stall_timeout:
                log.warning(
                    "listener %s: a client reads no replies for %.0f s; connection closed",
                    self.name,
                    quiet,
                )
                connection.abort()
            elif (
                connection.partial_since is not None
                and now - connection.partial_since > self.limits.stall_timeout
            ):
                log.warning(
                    "listener %s: a client does not finish its query within %.0f s; connection closed",
                    self.name,
                    self.limits.stall_timeout,
                )
                connection.abort()
            elif (
                quiet > self.limits.idle_timeout + self.limits.stall_timeout and not connection.busy
            ):
                # It was hung up on, or said that it would ask no more, and does not take its last
                # replies
                connection.abort()
            elif quiet > self.limits.idle_timeout and not connection.busy:
                connection.hang_up()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_INTERVAL, self._sweep)
