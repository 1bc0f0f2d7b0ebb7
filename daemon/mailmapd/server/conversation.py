"""Conversations: one codec and one service, joined for one connection.

A conversation knows no socket. It takes bytes and gives replies in the order of the questions; a reply that must wait is handed out as a
coroutine or, when it has many parts, as a stream, and nothing after it is decoded until that has ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import Protocol

from mailmapd.engine.map_service import MapService
from mailmapd.model import MapQuery
from mailmapd.protocols import MapCodec

Reply = bytes | Coroutine[None, None, bytes] | AsyncIterator[bytes]


class Conversation(Protocol):
    """What a connection needs of a protocol."""

    @property
    def asks_again(self) -> bool:
        """Return whether the client asks again when its connection ends instead of an answer."""
        ...

    @property
    def between_queries(self) -> bool:
        """Return whether no byte received so far waits to become a query, and a reply may be recalled by the bytes of the next one."""
        ...

    @property
    def buffered(self) -> int:
        """Return how many bytes received so far wait to become a query."""
        ...

    def recall(self, data: bytes, now: float, /) -> bytes | None:
        """Return the reply to these very bytes if it is at hand; asked between queries only, and the bytes are then not received."""
        ...

    def receive_data(self, data: bytes, /) -> None:
        """Store bytes as they came from the socket."""
        ...

    def next_reply(self) -> Reply | None:
        """Return the reply to the next query, or what to wait for; None when more bytes are needed. Raises ProtocolError."""
        ...


class MapConversation:
    """Postfix on the other side: socketmap or tcp_table."""

    asks_again = True

    def __init__(self, codec: MapCodec, service: MapService) -> None:
        self.recall = service.recall
        self._codec = codec
        self._service = service
        self._request: bytes | None = None

    @property
    def between_queries(self) -> bool:
        """Return whether no byte received so far waits to become a query."""
        return self._codec.buffered == 0

    @property
    def buffered(self) -> int:
        """Return how many bytes received so far wait to become a query."""
        return self._codec.buffered

    def receive_data(self, data: bytes, /) -> None:
        """Store bytes as they came from the socket."""
        self._request = data if self._codec.buffered == 0 else None
        self._codec.receive_data(data)

    def next_reply(self) -> Reply | None:
        """Return the reply to the next query; see `Conversation`."""
        query = self._codec.next_query()
        if query is None:
            return None
        request, self._request = self._request, None
        if self._codec.buffered:
            request = None  # these bytes held more than this query
        reply = self._service.answer_now(query, request, self._codec.encode)
        return self._wait(query) if reply is None else reply

    async def _wait(self, query: MapQuery) -> bytes:
        return self._codec.encode(await self._service.answer(query))
