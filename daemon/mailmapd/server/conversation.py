"""Conversations: one codec and one service, joined for one connection.

A conversation knows no socket. It takes bytes and gives replies in the order of the questions. A
reply that must wait for a database is passed to `deliver` later, one of many parts is handed out as
a stream; nothing after it is decoded until that has ended.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from enum import Enum
from typing import Final, Protocol

from mailmapd.engine.answered import Answered
from mailmapd.engine.maps.service import MapService
from mailmapd.errors import DEFECT
from mailmapd.model import Answer, TempFail
from mailmapd.protocols import MapCodec
from mailmapd.server.reply_cache import CountRecalled, Recall, Remember, ReplyCache

log = logging.getLogger(__name__)


class Later(Enum):
    """The one value that says: the reply comes later."""

    LATER = 0


LATER: Final = Later.LATER

Deliver = Callable[[bytes], None]
"""Takes a reply that comes later."""

Reply = bytes | Later | AsyncIterator[bytes]

Encode = Callable[[Answer], bytes]
"""Makes an answer a reply of the listener's protocol."""


class Conversation(Protocol):
    """A protocol, as a connection sees it."""

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


class Waiting(Protocol):
    """An answer that memory does not hold."""

    def go_on(self, done: Callable[[Answer], None]) -> Answer | None:
        """Have it asked for; return it if that can be said at once, or None: `done` gets it later."""
        ...


class Replier:
    """Makes replies of answers, and has them remembered; what cannot be encoded is a temporary failure."""

    def __init__(self, listener: str, encode: Encode, remember: Remember) -> None:
        self._listener = listener
        self._encode = encode
        self._remember = remember

    def reply(
        self, answered: Answered | Waiting, request: bytes | None, deliver: Deliver
    ) -> bytes | Later:
        """Return the reply to a query if its answer is there, and remember it for `request`, if that is known.

        When the answer comes later, `deliver` gets the reply.
        """
        if isinstance(answered, Answered):
            try:
                reply = self._encode(answered[0])
            except Exception:  # noqa: BLE001 (it is logged where it happens again)
                reply = self._encoded(answered[0])
            if request is not None:
                self._remember(request, reply, answered)
            return reply
        answer = answered.go_on(lambda answer: deliver(self._encoded(answer)))
        return LATER if answer is None else self._encoded(answer)

    def _encoded(self, answer: Answer) -> bytes:
        try:
            return self._encode(answer)
        except Exception:
            log.exception("listener %s: an answer could not be encoded: a defect", self._listener)
            return self._encode(TempFail(DEFECT))


class MapConversation:
    """Postfix on the other side: socketmap or tcp_table."""

    asks_again = True

    def __init__(self, codec: MapCodec, service: MapService, replies: ReplyCache) -> None:
        self.recall = replies.find
        self.count_recalled = replies.count
        self.receive_data = codec.receive_data
        self._codec = codec
        self._service = service
        self._reply = Replier(service.listener, codec.encode, replies.remember).reply

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
        query = self._codec.whole_query(data)
        return None if query is None else self._reply(self._service.answer(query), data, deliver)

    def next_reply(self, deliver: Deliver, /) -> Reply | None:
        """Return the reply to the next query; see `Conversation`."""
        query = self._codec.next_query()
        return None if query is None else self._reply(self._service.answer(query), None, deliver)
