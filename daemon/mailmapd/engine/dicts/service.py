"""The dict service of one listener: Dovecot's queries in, answers and listings out, each one counted.

It outlives a reload of the configuration, as the map service does. What a client asked is never
logged: only the dict and the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Mapping

from mailmapd.cache.table_cache import NO_ROW, NoRow, Payload
from mailmapd.engine.dicts.dict import Dict, Question
from mailmapd.engine.meters import LookupMeter
from mailmapd.engine.outcome import Failure, Outcome, Source
from mailmapd.engine.reply_cache import Part, ReplyCache, Use
from mailmapd.errors import DEFECT, DatabaseError
from mailmapd.model import (
    NOT_FOUND,
    Answer,
    DictCommit,
    DictIterate,
    DictLookup,
    Found,
    NotFound,
    PermFail,
    TempFail,
)

log = logging.getLogger(__name__)

DEFECTIVE = "listener %s: a lookup ended in a defect of mailmapd"
FAILED = TempFail(DEFECT)
UNKNOWN_DICT = PermFail("mailmapd has no dict of this name")
READ_ONLY = PermFail("this dict is read only: mailmapd does not write")
_USERS_PREFIX = b"shared/userdb/"
_ROW_VALUE = b"1"  # what a listed key holds does not matter to Dovecot

_Asked = Question | NotFound | PermFail | TempFail

DictRows = list[tuple[bytes, bytes]]

Encode = Callable[[Answer], bytes]
"""Makes the answer to a lookup a reply of the dict protocol."""


class DictService:
    """Answers dict queries for one listener. Lookups that take longer than `slow` seconds are logged."""

    def __init__(self, listener: str, clock: Callable[[], float], *, slow: float = 1.0) -> None:
        self.listener = listener
        self.meters: dict[str, LookupMeter] = {"": LookupMeter(listener, "")}
        self.slow = slow
        self._clock = clock
        self._served: dict[str, tuple[Dict, LookupMeter]] = {}
        self._replies: dict[str, ReplyCache] = {}

    def serve(self, dicts: Mapping[str, Dict]) -> None:
        """Answer from these dicts from now on."""
        for name in dicts:
            self.meters.setdefault(name, LookupMeter(self.listener, name))
        self._served = {name: (one, self.meters[name]) for name, one in dicts.items()}
        self.forget()

    def forget(self) -> None:
        """Forget whole replies, because cached answers they are made of were dropped."""
        for replies in self._replies.values():
            replies.forget()

    def replies(self, name: str) -> ReplyCache:
        """Return the remembered replies of a dict: always the same cache, whatever is configured anew."""
        replies = self._replies.get(name)
        if replies is None:
            replies = self._replies[name] = ReplyCache()
        return replies

    def knows(self, name: str) -> bool:
        """Return whether there is a dict of this name."""
        return name in self._served

    def answer(
        self,
        query: DictLookup,
        request: bytes | None,
        encode: Encode,
        told: Callable[[bytes], None],
    ) -> bytes | None:
        """Return the reply if it can be given now; when that is None, `told` gets it later.

        A reply from memory is remembered for `request`, the bytes that held this query and all that
        its answer depends on, if they are known.
        """
        try:
            return self._reply(query, request, encode, told)
        except Exception:
            log.exception(DEFECTIVE, self.listener)
            return encode(FAILED)

    def _reply(
        self,
        query: DictLookup,
        request: bytes | None,
        encode: Encode,
        told: Callable[[bytes], None],
    ) -> bytes | None:
        start = self._clock()
        served = self._served.get(query.dict)
        if served is None:
            self.meters[""].count(UNKNOWN_DICT, Source.CACHE, 0.0)
            return encode(UNKNOWN_DICT)
        one, meter = served
        question = one.parse(query.key, query.user)
        memory = self._from_memory(one, meter, question, start)
        if memory is None:

            def tell(answer: Answer) -> None:
                try:
                    reply = encode(answer)
                except Exception:
                    log.exception(DEFECTIVE, self.listener)
                    reply = encode(FAILED)
                told(reply)

            ended = self._ask(one, meter, question, start, tell)
            return None if ended is None else encode(ended)
        answer, until, use = memory
        reply = encode(answer)
        if request is not None and start < until:
            self.replies(one.name).remember(request, reply, until, use)
        return reply

    async def ask(self, name: str, namespace: str, values: Mapping[str, bytes]) -> Answer:
        """Return the answer about a user given by the values of Dovecot's variables.

        `namespace` is ``passdb`` or ``userdb``.
        """
        start = self._clock()
        served = self._served.get(name)
        if served is None:
            self.meters[""].count(UNKNOWN_DICT, Source.CACHE, 0.0)
            return UNKNOWN_DICT
        question = served[0].question(namespace, values)
        memory = self._from_memory(*served, question, start)
        if memory is not None:
            return memory[0]
        later: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        answer = self._ask(
            *served,
            question,
            start,
            lambda answer: None if later.done() else later.set_result(answer),
        )
        return await later if answer is None else answer

    def commit(self, query: DictCommit) -> Answer:
        """Refuse a transaction."""
        log.warning(
            "dict %s: a write over %s was refused: %s", query.dict, self.listener, READ_ONLY.reason
        )
        self._meter(query.dict).count(READ_ONLY, Source.CACHE, 0.0)
        return READ_ONLY

    async def rows(self, query: DictIterate) -> AsyncGenerator[DictRows, None]:
        """Yield the listing in batches of (key, value), each fetched when the one before has been taken.

        Raises DatabaseError, possibly after some batches: the listing is then incomplete.
        """
        if query.prefix != _USERS_PREFIX:
            raise DatabaseError(f"dict {query.dict} lists {_USERS_PREFIX.decode()} only")
        async with contextlib.aclosing(self.users(query.dict, query.mask, query.limit)) as batches:
            async for names in batches:
                yield [(query.prefix + name, _ROW_VALUE) for name in names]

    async def users(
        self, name: str, mask: bytes = b"", limit: int = 0
    ) -> AsyncGenerator[list[bytes], None]:
        """Yield the user names that fit the mask in batches; see `Iteration.users`. Raises DatabaseError."""
        start = self._clock()
        served = self._served.get(name)
        shown = name if served else "of another name"  # what a client made up is not logged
        answer: Answer = NOT_FOUND
        try:
            if served is None or served[0].iteration is None:
                raise DatabaseError(
                    f"dict {name} has no iterate query" if served else UNKNOWN_DICT.reason
                )
            async with contextlib.aclosing(served[0].iteration.users(mask, limit)) as batches:
                async for names in batches:
                    answer = Found(_ROW_VALUE)
                    yield names
        except DatabaseError as error:
            answer = TempFail(str(error))
            log.warning(
                "dict %s: the list of users over %s ended early: %s", shown, self.listener, error
            )
            raise
        finally:
            self._meter(name).count(answer, Source.DATABASE, self._clock() - start)

    def _from_memory(
        self, one: Dict, meter: LookupMeter, question: _Asked, start: float
    ) -> tuple[Answer, float, Use] | None:
        """Return and count what memory holds, or None: the answer, until when it is fresh, what it counted for."""
        if not isinstance(question, Question):
            return None
        entry = question.table.entry(question.sql_key, start)
        if entry is None:
            return None
        known, until = entry
        answer = _answer(known)
        one.avoided += 1
        result = meter.count(answer, Source.CACHE, self._clock() - start)
        return (
            answer,
            until,
            Use(one, meter, result, (Part(question.table, absent=known is NO_ROW),)),
        )

    def _ask(
        self,
        one: Dict,
        meter: LookupMeter,
        question: _Asked,
        start: float,
        told: Callable[[Answer], None],
    ) -> Answer | None:
        """Return and count what can be said of a question that memory does not answer; else have the database asked."""
        if not isinstance(question, Question):
            if not isinstance(question, NotFound):
                log.warning(
                    "dict %s: a lookup over %s was refused: %s",
                    one.name,
                    self.listener,
                    question.reason,
                )
            meter.count(question, Source.CACHE, self._clock() - start)
            return question

        def tell(outcome: Outcome) -> None:
            try:
                answer: Answer = self._end(one, meter, start, outcome)
            except Exception:
                log.exception(DEFECTIVE, self.listener)
                answer = FAILED
            told(answer)

        outcome = question.table.ask(question.sql_key, tell)
        return None if outcome is None else self._end(one, meter, start, outcome)

    def _end(self, one: Dict, meter: LookupMeter, start: float, outcome: Outcome) -> Answer:
        """Count an answer that the database took part in, and log it if it was bad or slow."""
        answer = _answer(outcome.known)
        seconds = self._clock() - start
        meter.count(answer, outcome.source, seconds)
        if isinstance(answer, TempFail):
            log.warning(
                "dict %s: a lookup over %s failed: %s", one.name, self.listener, answer.reason
            )
        if seconds >= self.slow:
            log.warning(
                "slow lookup: dict %s took %.3f s over %s (%s)",
                one.name,
                seconds,
                self.listener,
                outcome.source.name.lower(),
            )
        return answer

    def _meter(self, name: str) -> LookupMeter:
        return self.meters.get(name) or self.meters[""]


def _answer(known: Payload | NoRow | Failure) -> Answer:
    if known is NO_ROW:
        return NOT_FOUND
    if isinstance(known, Failure):
        return TempFail(known.reason)
    return Found(known if isinstance(known, bytes) else b"".join(known))
