"""Dovecot on the other side: the dict protocol, joined with a dict service for one connection.

A listing is written batch by batch; the next batch is asked of the database when the connection has taken the last, so that a listing of
any length costs the memory of one batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from mailmapd.engine.dict_service import DictService
from mailmapd.errors import DatabaseError, ProtocolError
from mailmapd.model import NOT_FOUND, DictCommit, DictIterate, DictLookup, TempFail
from mailmapd.protocols import DictCodec
from mailmapd.server.conversation import LATER, Deliver, Reply

UNKNOWN_DICT = "unknown_dict"
"""The reason of the protocol error for a hello that names no dict of ours."""


class DictConversation:
    """One client of the dict protocol; see `Conversation`. Dovecot asks again what it could not send, but nothing that was taken."""

    asks_again = False

    def __init__(self, codec: DictCodec, service: DictService) -> None:
        self._codec = codec
        self._service = service
        self._greeted = False
        self.receive_data = codec.receive_data

    @property
    def between_queries(self) -> bool:
        """Return False: what bytes mean depends on the dict that the hello named, so that no reply is recalled by bytes alone."""
        return False

    @property
    def buffered(self) -> int:
        """Return how many bytes received so far wait to become a query."""
        return self._codec.buffered

    def recall(self, data: bytes, now: float, /) -> bytes | None:  # noqa: ARG002 (see `Conversation`)
        """Return None: see `between_queries`."""
        return None

    def reply_to(self, data: bytes, deliver: Deliver, /) -> None:  # noqa: ARG002 (see `Conversation`)
        """Return None: see `between_queries`."""
        return

    def next_reply(self, deliver: Deliver, /) -> Reply | None:
        """Return the reply to the next query. Raises ProtocolError, also for a dict that is not configured."""
        query = self._codec.next_query()
        if not self._greeted and self._codec.dict_name is not None:
            self._greet(self._codec.dict_name)
        if query is None:
            return None
        if isinstance(query, DictLookup):
            answer = self._service.answer(query, lambda answer: deliver(self._codec.encode(query, answer)))
            return LATER if answer is None else self._codec.encode(query, answer)
        if isinstance(query, DictCommit):
            return self._codec.encode(query, self._service.commit(query))
        return self._list(query)

    def _greet(self, name: str) -> None:
        if not self._service.knows(name):
            shown = name if name.isprintable() and len(name) <= 64 else "of another name"
            raise ProtocolError(UNKNOWN_DICT, f"there is no dict {shown}")
        self._greeted = True

    async def _list(self, query: DictIterate) -> AsyncIterator[bytes]:
        try:
            async with contextlib.aclosing(self._service.rows(query)) as batches:
                async for rows in batches:
                    yield self._codec.encode_rows(query, rows)
        except DatabaseError as error:
            yield self._codec.encode(query, TempFail(str(error)))
        else:
            yield self._codec.encode(query, NOT_FOUND)
