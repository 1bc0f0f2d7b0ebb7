"""The doorway of a socket: accepts clients a few at a time, or at a pace, and only peers.

The servers of event loops accept as fast as clients connect, a thousand in a row if a thousand wait, and for ever if
they come faster than that; each costs time that lookups would have to wait for.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from mailmapd.sockets.peers import Peers
from mailmapd.sockets.turns import Turns

log = logging.getLogger(__name__)

AT_ONCE = 4  # clients accepted in a row where no pace is kept; then lookups have their turn
NO_DESCRIPTORS = 1.0  # seconds until the next attempt when none can be accepted


class Doorway:
    """Accepts on `bound`; `make` gives the protocol of each client.

    Who is none of `peers` is sent away before anything is made for it, and takes no place; `refused` is called then.
    """

    def __init__(
        self,
        bound: socket.socket,
        name: str,
        make: Callable[[], asyncio.BaseProtocol],
        *,
        peers: Peers,
        turns: Turns | None = None,
        refused: Callable[[], None] | None = None,
    ) -> None:
        self._bound = bound
        self._name = name
        self._make = make
        self._turns = turns
        self._peers = peers
        self._refused = refused
        self._later: asyncio.TimerHandle | None = None
        self._entering: set[asyncio.Task[None]] = set()
        self._open = False

    def open(self, backlog: int) -> None:
        """Accept from now on."""
        self._bound.setblocking(False)
        self._bound.listen(backlog)
        self._open = True
        self._watch()

    def close(self) -> None:
        """Accept no more. The socket file stays."""
        if not self._open:
            return
        self._open = False
        asyncio.get_running_loop().remove_reader(self._bound)
        if self._later is not None:
            self._later.cancel()
        self._bound.close()

    def _watch(self) -> None:
        self._later = None
        if self._open:
            asyncio.get_running_loop().add_reader(self._bound, self._somebody)

    def _somebody(self) -> None:
        if self._turns is not None:
            asyncio.get_running_loop().remove_reader(self._bound)
            self._turns.ask(self._accept_one, first=True)
            return
        for _ in range(AT_ONCE):
            if not self._accept():
                break

    def _accept_one(self) -> None:
        if self._open:
            self._accept()
            if self._later is None:
                self._watch()

    def _accept(self) -> bool:
        """Accept a client; return whether the next one may be accepted in the same turn."""
        loop = asyncio.get_running_loop()
        try:
            client, _ = self._bound.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:  # no descriptor is left; the client waits
            log.error("listener %s: no client can be accepted: %s", self._name, error.strerror)  # noqa: TRY400
            loop.remove_reader(self._bound)
            self._later = loop.call_later(NO_DESCRIPTORS, self._watch)
            return False
        refusal = self._peers.refusal(client) if self._peers else ""
        if refusal:
            client.close()
            if self._refused is not None:
                self._refused()
            log.warning("listener %s: refused %s, who is not one of its peers", self._name, refusal)
            return False
        client.setblocking(False)
        self._entering.add(task := loop.create_task(self._enter(client)))
        task.add_done_callback(self._entering.discard)
        return True

    async def _enter(self, client: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._make, client)
        except OSError:  # it has gone already
            client.close()
