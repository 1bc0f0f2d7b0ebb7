"""Dovecot on the other side: the dict protocol, joined with a dict service for one connection.

A listing is written batch by batch; the next batch is asked of the database when the connection has
taken the last, so that a listing of any length costs the memory of one batch.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from mailmapd.engine.answered import Answered
from mailmapd.engine.dicts.service import DictService
from mailmapd.errors import DatabaseError
from mailmapd.model import NOT_FOUND, DictCommit, DictIterate, DictLookup, TempFail
from mailmapd.protocols import DictCodec
from mailmapd.protocols.dovecot_dict import encode_lookup
from mailmapd.server.conversation import Deliver, Later, Replier, Reply
from mailmapd.server.reply_cache import CountRecalled, Recall, Remembered, ReplyCache

log = logging.getLogger(__name__)


def _recall_nothing(_: bytes, __: float) -> Remembered | None:
    """Say nothing: it is not known yet which dict's replies could be recalled."""
    return None


class DictConversation:
    """One client of the dict protocol; see `Conversation`.

    Dovecot asks again what it could not send, but nothing that was taken.
    """

    asks_again = False

    def __init__(
        self, codec: DictCodec, service: DictService, replies_of: Callable[[str], ReplyCache]
    ) -> None:
        self._codec = codec
        self._service = service
        self._replies_of = replies_of
        self._greeted = False
        self.recall: Recall = _recall_nothing
        self.count_recalled: CountRecalled
        self._reply = Replier(service.listener, encode_lookup, self._remember_first).reply
        self.receive_data = codec.receive_data

    @property
    def between_queries(self) -> bool:
        """Return whether the hello has been read and no byte received so far waits to become a query."""
        return self._greeted and self._codec.buffered == 0

    @property
    def buffered(self) -> int:
        """Return how many bytes received so far wait to become a query."""
        return self._codec.buffered

    def reply_to(self, data: bytes, deliver: Deliver, /) -> bytes | Later | None:
        """Return the reply to these bytes if they are one lookup that names its user; see `Conversation`."""
        query = self._codec.whole_query(data)
        if query is None:
            return None
        return self._reply(self._service.answer(query), data, deliver)

    def next_reply(self, deliver: Deliver, /) -> Reply | None:
        """Return the reply to the next query. Raises ProtocolError."""
        query = self._codec.next_query()
        if not self._greeted and self._codec.dict_name is not None:
            self._greet(self._codec.dict_name)
        if query is None:
            return None
        if isinstance(query, DictLookup):
            return self._reply(self._service.answer(query), None, deliver)
        if isinstance(query, DictCommit):
            return self._codec.encode(query, self._service.commit(query))
        return self._list(query)

    def _greet(self, name: str) -> None:
        """Begin to answer; of a dict that is not there each answer says so, and Dovecot logs it."""
        self._greeted = True
        if not self._service.knows(name):
            log.warning(
                "listener %s: a client asks, and %s",
                self._service.listener,
                self._service.unknown(name).reason,
            )
            return
        self._remember_in(self._replies_of(name))

    def _remember_in(self, replies: ReplyCache) -> None:
        self._reply = Replier(self._service.listener, encode_lookup, replies.remember).reply
        self.recall, self.count_recalled = replies.find, replies.count

    def _remember_first(self, request: bytes, reply: bytes, answered: Answered) -> None:
        """Begin to remember, because a dict has answered that was not there at the hello: a reload has brought it."""
        name = self._codec.dict_name
        if answered.use is not None and name is not None:
            replies = self._replies_of(name)
            self._remember_in(replies)
            replies.remember(request, reply, answered)

    async def _list(self, query: DictIterate) -> AsyncIterator[bytes]:
        try:
            async with contextlib.aclosing(self._service.rows(query)) as batches:
                async for rows in batches:
                    yield self._codec.encode_rows(query, rows)
        except DatabaseError as error:
            yield self._codec.encode(query, TempFail(str(error)))
        else:
            yield self._codec.encode(query, NOT_FOUND)
