"""Serving an aiohttp application on a bound socket, to as many clients and as long as `[limits]` allows.

Where strangers may connect, they are served at a pace that lookups do not feel. No peer (a user on
a UNIX socket, an address on TCP) has more than half of the places, the client that we have waited
for longest makes room for the next one, and some places are kept for questions about health.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import Counter
from collections.abc import Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from mailmapd.config.schema import LimitsSection
from mailmapd.sockets.clients import Clients
from mailmapd.sockets.doorway import Doorway
from mailmapd.sockets.peers import Peers, peer_of
from mailmapd.sockets.turns import Turns
from mailmapd.web.http_client import HttpClient
from mailmapd.web.stranger import Stranger


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Return whether a line of aiohttp is about us, and not about a client: its request was no HTTP, or it has left."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError | ConnectionError)


# Seconds in which a client that is being answered may take the rest, and as many again until it is
# cut off
FINISH = 2.0

STRANGERS = 256  # clients; Prometheus, health checks and people need a handful
RESERVE = 16  # clients beyond these, who may ask about health only
# A request costs about a quarter of a millisecond and a connection a tenth: these rates take two
# hundredths of the loop's time at most, and three with questions about health
REQUESTS = 50.0  # a second, after as many at once as …
CONNECTIONS = 50.0
BURST = 8
NEW_BURST = 32  # … these
BACKLOG = 128  # strangers that wait to be accepted, in the pace of CONNECTIONS

log = logging.getLogger(__name__)
log.addFilter(_is_our_fault)


class HttpServer:
    """One application on one socket; `name` is the listener's.

    `limits` is asked for at each use: a reload may change it. Nobody but `peers` is served, if there
    are any. `strangers` says that anybody may connect, and that no request has a body of more than
    `longest_body` bytes.
    """

    def __init__(
        self,
        app: web.Application,
        bound: socket.socket,
        name: str,
        limits: Callable[[], LimitsSection],
        *,
        peers: Peers,
        strangers: bool = False,
        longest_body: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        app.middlewares.insert(0, self._take_request)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            logger=log,
            shutdown_timeout=FINISH,
            auto_decompress=False,
            lingering_time=0,
        )
        self._name = name
        self._limits = limits
        self._strangers = strangers
        self._longest_body = longest_body
        self._clock = clock
        self.clients: Clients[HttpClient] = Clients(
            name,
            log,
            most=self._most,
            overdue=lambda client, now: client.overdue(now, limits()),
            clock=clock,
            level=logging.INFO,
            beyond="idle ones make room for more" if strangers else "more are refused",
            roomy=0.25 if strangers else 0.9,
        )
        self._peers: Counter[object] = Counter()
        self._turns = [
            Turns(rate, burst)
            for rate, burst in (
                (REQUESTS, BURST),
                (REQUESTS, BURST),
                (CONNECTIONS, NEW_BURST),
            )
        ]
        # Where only peers come in, those who do not must not use up the pace
        pace = self._turns[2] if strangers and not peers else None
        self._doorway = Doorway(bound, name, self._client, peers=peers, turns=pace)

    async def start(self) -> None:
        """Accept requests from now on."""
        await self._runner.setup()
        backlog = self._limits().backlog
        self._doorway.open(min(backlog, BACKLOG) if self._strangers else backlog)
        self.clients.start()

    async def close(self) -> None:
        """Finish what is being answered, briefly, and stop."""
        self._doorway.close()
        self.clients.stop()
        for client in list(self.clients.all):
            if client.waiting_since is not None and client.transport is not None:
                client.transport.close()
        await self._runner.cleanup()
        for turns in self._turns:
            turns.close()
        for client in list(self.clients.all):
            client.abort()

    def _client(self) -> HttpClient:
        make = self._runner.server
        assert make is not None  # noqa: S101 (start makes it)
        if not self._strangers:
            return HttpClient(make, self._admit, self._left, self._clock)
        return Stranger(
            make,
            self._admit,
            self._left,
            self._clock,
            turns=self._turns[0],
            health=self._turns[1],
            longest_body=self._longest_body,
        )

    def _most(self) -> int:
        most = self._limits().max_connections
        return min(most, STRANGERS) if self._strangers else most

    def _admit(self, client: HttpClient) -> bool:
        if not self._has_place(client):
            return False
        self.clients.add(client)
        self._peers[client.peer] += 1
        return True

    def _has_place(self, client: HttpClient) -> bool:
        """Return whether the client may stay, with a line in the log when places begin to be scarce."""
        crowded = False
        if isinstance(client, Stranger):
            if client.transport is not None:
                client.peer = peer_of(client.transport)
            crowded = self._peers[client.peer] >= (self._most() + 1) // 2
        if self.clients.have_room and not crowded:
            return True
        self.clients.note_full()
        if not isinstance(client, Stranger):
            return False
        peer = client.peer
        if self._make_room(
            lambda other: not _of_reserve(other) and (not crowded or other.peer == peer)
        ):
            return True
        client.reserve = True
        reserved = sum(map(_of_reserve, self.clients.all))
        return reserved < RESERVE or self._make_room(_of_reserve)

    def _make_room(self, may_go: Callable[[HttpClient], bool]) -> bool:
        """End the connection of the client that keeps us waiting longest; return whether there is one."""
        quietest, since = None, float("inf")
        for client in self.clients.all:
            if may_go(client):
                waiting = client.waiting_since
                if waiting is not None and waiting < since:
                    quietest, since = client, waiting
        if quietest is None:
            return False
        quietest.abort()
        self._left(quietest)
        return True

    def _left(self, client: HttpClient) -> None:
        if client not in self.clients.all:
            return  # it had to make room
        self.clients.remove(client)
        self._peers[client.peer] -= 1
        if not self._peers[client.peer]:
            del self._peers[client.peer]

    @web.middleware
    async def _take_request(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Have the whole body before the request is answered; a client that does not send it is swept away."""
        client = None if request.transport is None else request.transport.get_protocol()
        if not isinstance(client, HttpClient):  # it has gone already
            return await handler(request)
        try:
            try:
                if request.headers.get("Content-Encoding", "identity").lower() != "identity":
                    raise _compressed()
                await request.read()
            except web.RequestPayloadError as error:
                raise web.HTTPBadRequest(text="The body is not what its head says.\n") from error
            finally:
                client.answer_begins()
            return await handler(request)
        finally:
            client.answer_ends()


def _compressed() -> web.HTTPException:
    """Return the refusal of a compressed body: a few bytes may stand for gigabytes."""
    refusal = web.HTTPUnsupportedMediaType(text="Nothing is decompressed here.\n")
    refusal.force_close()
    return refusal


def _of_reserve(client: HttpClient) -> bool:
    return isinstance(client, Stranger) and client.reserve
