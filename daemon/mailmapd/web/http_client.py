"""One client of an HTTP socket: how long it may take with its requests, and with the replies.

aiohttp speaks HTTP; it has no limit for the number of clients, for the time that the head or the
body of a request takes, or for a reply that nobody reads. This class passes everything on to
aiohttp's own protocol object, and remembers when the client last got on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from mailmapd.config.schema import LimitsSection

Protocols = Callable[[], asyncio.Protocol]
"""Makes aiohttp's side of a connection."""

Admit = Callable[["HttpClient"], bool]
"""Takes a client in, or returns False: there are too many."""


class HttpClient(asyncio.Protocol):
    """Stands between a transport and aiohttp. `leave` is called once when an admitted client is gone.

    `peer` is who it is, where that matters.
    """

    def __init__(
        self,
        make: Protocols,
        admit: Admit,
        leave: Callable[[HttpClient], None],
        clock: Callable[[], float],
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: object = None
        self._make = make
        self._admit = admit
        self._leave = leave
        self._clock = clock
        self._admitted = False
        self._inner: asyncio.Protocol | None = None
        self._answering = False
        self._asked_since: float | None = None
        self._asks_more = False
        self._quiet_since = clock()
        self._unread = 0
        self._unread_since: float | None = None

    def answer_begins(self) -> None:
        """Note that a whole request has come: until the answer ends, the client waits for us, and not we for it."""
        self._answering, self._asked_since, self._asks_more = True, None, False

    def answer_ends(self) -> None:
        """Note that the client may ask again, or has begun to."""
        self._answering, self._quiet_since = False, self._clock()
        self._asked_since = self._quiet_since if self._asks_more else None

    @property
    def waiting_since(self) -> float | None:
        """Return since when we wait for the client, or None while it waits for us."""
        if self._answering and self._asked_since is None and not self._unread_bytes():
            return None
        return self._quiet_since if self._asked_since is None else self._asked_since

    def overdue(self, now: float, limits: LimitsSection) -> str:
        """Return what the client takes too long for, or an empty text."""
        if self._unread_for(now) > limits.stall_timeout:
            return "reads no replies"
        if self._asked_since is not None and now - self._asked_since > limits.stall_timeout:
            return "does not finish its request"
        if not self._answering and now - self._quiet_since > limits.idle_timeout:
            return "asks nothing"
        return ""

    def abort(self) -> None:
        """End the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def _unread_bytes(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def _unread_for(self, now: float) -> float:
        """Return for how long the client has taken nothing of what waits for it, as calls of this method saw it."""
        unread = self._unread_bytes()
        if not unread or unread != self._unread:
            self._unread, self._unread_since = unread, now if unread else None
        return 0.0 if self._unread_since is None else now - self._unread_since

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many clients."""
        self.transport = cast("asyncio.Transport", transport)
        self._admitted = self._admit(self)
        if not self._admitted:
            self.transport.abort()
            return
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._admitted:
            self._admitted = False
            self._leave(self)
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass on a part of a request. What comes before its last byte counts as an unfinished one."""
        if self._admitted:
            self._note_data()
            self._pass_on(data)

    def eof_received(self) -> bool | None:
        """Pass on that nothing more comes."""
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass on that the client is slower than we are."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the client reads again."""
        if self._inner is not None:
            self._inner.resume_writing()

    def _begin(self) -> None:
        """Have aiohttp speak with the client from now on."""
        self._inner = self._make()
        self._inner.connection_made(cast("asyncio.Transport", self.transport))

    def _note_data(self) -> None:
        if self._answering:
            self._asks_more = True
        elif self._asked_since is None:
            self._asked_since = self._clock()

    def _pass_on(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)
