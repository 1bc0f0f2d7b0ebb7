"""Listeners: one socket, one protocol, and the connections that came through it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable

from mailmapd.config.schema import LimitsSection, ListenAddress
from mailmapd.engine.meters import ClientMeter
from mailmapd.errors import ProtocolError
from mailmapd.server.connection import Connection
from mailmapd.server.conversation import Conversation
from mailmapd.sockets.clients import Clients
from mailmapd.sockets.doorway import Doorway
from mailmapd.sockets.peers import Peers

LAST_WORDS = 2.0  # seconds in which a client that has to make room may take its replies

log = logging.getLogger(__name__)


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
        self.meter = meter or ClientMeter()
        self.limits = limits
        self._doorway = Doorway(
            bound,
            name,
            lambda: Connection(self, converse()),
            peers=Peers(entry.peers),
            refused=self._refuse,
        )
        self._draining = False
        self._places: Counter[object] = Counter()
        self.clients: Clients[Connection] = Clients(
            name,
            log,
            most=lambda: self.limits.max_connections,
            overdue=self._overdue,
            clock=clock,
        )

    @property
    def connections(self) -> set[Connection]:
        """Return the connections that are open."""
        return self.clients.all

    async def start(self) -> None:
        """Accept clients from now on."""
        self._doorway.open(self.limits.backlog)
        self.clients.start()

    def admit(self, connection: Connection) -> bool:
        """Take the client in, or return False: there are too many."""
        if not self.clients.have_room:
            self.clients.note_full()
            if not self._make_room(connection.peer):
                self.meter.refused += 1
                return False
        self.clients.add(connection)
        self._places[connection.peer] += 1
        if self._draining:
            connection.drain()  # accepted a moment before the socket was closed
        return True

    def _refuse(self) -> None:
        self.meter.refused += 1

    def departed(self, connection: Connection) -> None:
        """Forget a client that is gone."""
        if connection not in self.connections:
            return  # it had to make room
        self.clients.remove(connection)
        self._places[connection.peer] -= 1
        if not self._places[connection.peer]:
            del self._places[connection.peer]

    def _make_room(self, peer: object) -> bool:
        """Hang up on the quietest client of the peer with the most places, if this one has less than half as many.

        So nobody who may connect keeps others out by holding places; Postfix asks again over a new connection.
        """
        if not self._places:
            return False
        [(greedy, held)] = self._places.most_common(1)
        if self._places[peer] * 2 >= held:
            return False
        idle = [client for client in self.connections if client.peer == greedy and not client.busy]
        if not idle:
            return False
        quietest = min(idle, key=lambda client: client.last_activity)
        quietest.hang_up()
        self.departed(quietest)
        asyncio.get_running_loop().call_later(LAST_WORDS, quietest.abort)
        return True

    def violated(self, error: ProtocolError) -> None:
        """Count and log a violation of the protocol; the connection ends, so this happens once for each."""
        self.meter.violations[error.reason] += 1
        log.warning("listener %s: protocol error, connection closed: %s", self.name, error)

    def stop_accepting(self) -> None:
        """Accept no more clients. The socket file stays: another listener may have the socket, too."""
        self._doorway.close()
        self.clients.stop()

    def drain(self) -> None:
        """Let every connection end, none with a question that stays open."""
        self._draining = True
        for connection in list(self.connections):
            connection.drain()

    def close(self) -> None:
        """End every connection now."""
        for connection in list(self.connections):
            connection.abort()

    def _overdue(self, connection: Connection, now: float) -> str:
        """Return what a client takes too long for; one that only asks nothing is hung up on, without a word."""
        limits = self.limits
        quiet = now - connection.last_activity
        began = connection.partial_since
        if connection.stalled and quiet > limits.stall_timeout:
            return f"reads no replies for {quiet:.0f} s"
        if began is not None and now - began > limits.stall_timeout:
            return f"does not finish its query within {limits.stall_timeout:.0f} s"
        if quiet > limits.idle_timeout and not connection.busy:
            if quiet > limits.idle_timeout + limits.stall_timeout:
                # It was hung up on, or said that it would ask no more, and takes no last replies
                connection.abort()
            else:
                connection.hang_up()
        return ""
