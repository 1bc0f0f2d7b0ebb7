"""Conversations: one codec and one service, joined for one connection.

A conversation knows no socket. It takes bytes and gives replies in the order of the questions; a reply that must wait is handed out as a
stream of bytes, and nothing after it is decoded until that stream has ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from mailmapd.engine.map_service import MapService
from mailmapd.model import MapQuery
from mailmapd.protocols import MapCodec

Reply = bytes | AsyncIterator[bytes]


class Conversation(Protocol):
    """What a connection needs of a protocol."""

    def receive_data(self, data: bytes, /) -> None:
        """Store bytes as they came from the socket."""
        ...

    def next_reply(self) -> Reply | None:
        """Return the reply to the next query, as bytes or a stream to wait for; None when more bytes are needed. Raises ProtocolError."""
        ...


class MapConversation:
    """Postfix on the other side: socketmap or tcp_table."""

    def __init__(self, codec: MapCodec, service: MapService) -> None:
        self._codec = codec
        self._service = service
        self.receive_data = codec.receive_data

    def next_reply(self) -> Reply | None:
        """Return the reply to the next query; see `Conversation`."""
        query = self._codec.next_query()
        if query is None:
            return None
        answer = self._service.answer_now(query)
        return self._wait(query) if answer is None else self._codec.encode(answer)

    async def _wait(self, query: MapQuery) -> AsyncIterator[bytes]:
        yield self._codec.encode(await self._service.answer(query))
