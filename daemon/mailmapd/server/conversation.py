"""Conversations: one codec and one service, joined for one connection.

A conversation knows no socket. It takes bytes and gives replies in the order of the questions. A
reply that must wait for a database is passed to `deliver` later, one of many parts is handed out as
a stream; nothing after it is decoded until that has ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from enum import Enum
from typing import Final, Protocol

from mailmapd.engine.maps.service import MapService
from mailmapd.engine.reply_cache import CountRecalled, Recall
from mailmapd.protocols import MapCodec


class Later(Enum):
    """The one value that says: the reply comes later."""

    LATER = 0


LATER: Final = Later.LATER

Deliver = Callable[[bytes], None]
"""Takes a reply that comes later."""

Reply = bytes | Later | AsyncIterator[bytes]


class Conversation(Protocol):
    """What a connection needs of a protocol."""

    @property
    def asks_again(self) -> bool:
        """Return whether the client asks again when its connection ends instead of an answer."""
        ...

    @property
    def between_queries(self) -> bool:
        """Return whether no byte waits to become a query: a reply may be recalled by the bytes of the next one."""
        ...

    @property
    def buffered(self) -> int:
        """Return how many bytes received so far wait to become a query."""
        ...

    @property
    def recall(self) -> Recall:
        """Return what finds the remembered reply to these very bytes.

        Asked between queries only, and the bytes are then not received.
        """
        ...

    @property
    def count_recalled(self) -> CountRecalled:
        """Return what counts a lookup that was answered so."""
        ...

    def reply_to(self, data: bytes, deliver: Deliver, /) -> bytes | Later | None:
        """Return the reply to these bytes if they are one usual query and nothing else.

        None says nothing, and they are not received.

        Asked between queries only.
        """
        ...

    def receive_data(self, data: bytes, /) -> None:
        """Store bytes as they came from the socket."""
        ...

    def next_reply(self, deliver: Deliver, /) -> Reply | None:
        """Return the reply to the next query, or what to wait for.

        None when more bytes are needed. Raises ProtocolError.
        """
        ...


class MapConversation:
    """Postfix on the other side: socketmap or tcp_table."""

    asks_again = True

    def __init__(self, codec: MapCodec, service: MapService) -> None:
        self.recall = service.recall
        self.count_recalled = service.count_recalled
        self.receive_data = codec.receive_data
        self._codec = codec
        self._service = service

    @property
    def between_queries(self) -> bool:
        """Return whether no byte received so far waits to become a query."""
        return self._codec.buffered == 0

    @property
    def buffered(self) -> int:
        """Return how many bytes received so far wait to become a query."""
        return self._codec.buffered

    def reply_to(self, data: bytes, deliver: Deliver, /) -> bytes | Later | None:
        """Return the reply to these bytes if they are one usual query; see `Conversation`."""
        codec = self._codec
        query = codec.whole_query(data)
        if query is None:
            return None
        return self._service.answer(query, data, codec.encode, deliver) or LATER

    def next_reply(self, deliver: Deliver, /) -> Reply | None:
        """Return the reply to the next query; see `Conversation`."""
        query = self._codec.next_query()
        if query is None:
            return None
        return self._service.answer(query, None, self._codec.encode, deliver) or LATER
