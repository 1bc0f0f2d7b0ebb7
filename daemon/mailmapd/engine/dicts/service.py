"""The dict service of one listener: Dovecot's queries in, answers and listings out, each one counted.

It outlives a reload of the configuration, as the map service does. What a client asked is never
logged: only the dict and the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Container, Mapping
from typing import NamedTuple

from mailmapd.cache.table_cache import ABSENCE, Absence, Payload
from mailmapd.engine.answered import Answered, Part, Use, Uses
from mailmapd.engine.dicts.dict import PREFIX_SIZE, Asked, Dict, MismatchQuestion, Question
from mailmapd.engine.dicts.mismatches import Mismatches
from mailmapd.engine.meters import FOUND, LookupMeter
from mailmapd.engine.outcome import Failure, Outcome, Source
from mailmapd.engine.unknown_names import UnknownNames
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
READ_ONLY = PermFail("this dict is read only: mailmapd does not write")
_NAME_SHOWN = 64  # characters of a name that a client may have made up
_USERS_PREFIX = b"shared/userdb/"
_NUL = 0  # as a number: found eight times as fast as bytes in bytes
_ROW_VALUE = b"1"  # what a listed key holds does not matter to Dovecot

DictRows = list[tuple[bytes, bytes]]


_new = tuple.__new__  # Answered(…) and Found(…) without their Python-level __new__


class PlainTable(NamedTuple):
    """A table that is asked for what follows the prefix of a key: how to look into it, and what that counts for."""

    held: Callable[[bytes, float], tuple[bytes, float] | None]
    use: Use
    mismatches: Mismatches | None
    doubted: Container[bytes]

    def still_doubted(self, sql_key: bytes) -> bool:
        """Note a question about a doubted key; return whether it is doubted still."""
        return self.mismatches is not None and self.mismatches.note_first(sql_key)


class Served(NamedTuple):
    """A dict with what its lookups through one listener count for, and its plain tables by the prefix of their keys."""

    asked: Dict
    meter: LookupMeter
    uses: Uses
    plain: Mapping[bytes, PlainTable]

    @classmethod
    def of(cls, asked: Dict, meter: LookupMeter) -> Served:
        """Return the dict so."""
        uses = Uses(asked, meter)
        plain: dict[bytes, PlainTable] = {}
        for prefix, table in asked.plain_tables().items():
            use = uses.of(FOUND, (Part(table, absent=False),))
            mismatches = asked.mismatches_of(table)
            doubted = {} if mismatches is None else mismatches.doubted
            plain[prefix] = PlainTable(table.cache.held, use, mismatches, doubted)
        return cls(asked, meter, uses, plain)


class DictService:
    """Answers dict queries for one listener. Lookups that take longer than `slow` seconds are logged."""

    def __init__(self, listener: str, clock: Callable[[], float], *, slow: float = 1.0) -> None:
        self.listener = listener
        self.meters: dict[str, LookupMeter] = {"": LookupMeter(listener, "")}
        self.slow = slow
        self.unknown_names = UnknownNames("dict", listener, clock)
        self._clock = clock
        self._served: dict[str, Served] = {}

    @property
    def names(self) -> list[str]:
        """Return the dicts that can be asked for."""
        return list(self._served)

    def serve(self, dicts: Mapping[str, Dict]) -> None:
        """Answer from these dicts from now on."""
        self.settle()
        for name in dicts:
            self.meters.setdefault(name, LookupMeter(self.listener, name))
        self._served = {name: Served.of(dict_, self.meters[name]) for name, dict_ in dicts.items()}

    def settle(self) -> None:
        """Count what has been added up; see `Use`."""
        for served in self._served.values():
            served.uses.settle()

    def knows(self, name: str) -> bool:
        """Return whether there is a dict of this name."""
        return name in self._served

    def unknown(self, name: str) -> PermFail:
        """Return the answer for a dict that is not there; its name is told if it can be printed."""
        shown = f"dict {name}" if name.isprintable() and len(name) <= _NAME_SHOWN else "such dict"
        return PermFail(
            f"mailmapd has no {shown}; its dicts are: {', '.join(self._served) or 'none'}"
        )

    def _refuse(self, name: str) -> PermFail:
        answer = self.unknown(name)
        self.meters[""].count(answer, Source.CACHE, 0.0)
        self.unknown_names.note(name, self._served)
        return answer

    def answer(self, query: DictLookup) -> Answered | DictWaiting:
        """Return the answer if memory holds it, or else what goes on to the database when it is told to."""
        try:
            start = self._clock()
            name, key, user = query
            served = self._served.get(name)
            if served is None:
                return Answered(self._refuse(name))
            plain = served.plain.get(key[:PREFIX_SIZE])
            if plain is not None:
                sql_key = key[PREFIX_SIZE:]
                held = None if _NUL in sql_key else plain.held(sql_key, start)
                if held is not None:
                    plain.use.count(self._clock() - start)
                    if sql_key in plain.doubted and plain.still_doubted(sql_key):
                        return Answered(Found(held[0]))
                    return _new(Answered, (_new(Found, held[:1]), held[1], plain.use, (sql_key,)))
            question = served.asked.parse(key, user)
            memory = self._from_memory(served, question, start)
            if memory is None:
                return DictWaiting(self, served.asked, served.meter, question, start)
            return memory  # noqa: TRY300
        except Exception:
            log.exception(DEFECTIVE, self.listener)
            return Answered(FAILED)

    async def ask(self, name: str, namespace: str, values: Mapping[str, bytes]) -> Answer:
        """Return the answer about a user given by the values of Dovecot's variables.

        `namespace` is ``passdb``, ``passdb-fresh`` or ``userdb``.
        """
        start = self._clock()
        served = self._served.get(name)
        if served is None:
            return self._refuse(name)
        question = served.asked.question(namespace, values)
        memory = self._from_memory(served, question, start)
        if memory is not None:
            return memory.answer
        later: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting = DictWaiting(self, served.asked, served.meter, question, start)
        answer = waiting.go_on(lambda answer: None if later.done() else later.set_result(answer))
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
            if served is None or served.asked.iteration is None:
                raise DatabaseError(
                    f"dict {name} has no iterate query" if served else self.unknown(name).reason
                )
            async with contextlib.aclosing(served.asked.iteration.users(mask, limit)) as batches:
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

    def _from_memory(self, served: Served, question: Asked, start: float) -> Answered | None:
        """Return and count what memory holds, or None."""
        if not isinstance(question, Question):
            return None
        table, sql_key = question
        entry = table.entry(sql_key, start)
        if entry is None:
            return None
        known, until = entry
        mismatches = served.asked.mismatches_of(table)
        doubted = mismatches is not None and sql_key in mismatches.doubted
        if mismatches is not None and doubted:
            doubted = mismatches.note_first(sql_key)
        answer = _answer(known)
        served.asked.avoided += 1
        result = served.meter.count(answer, Source.CACHE, self._clock() - start)
        if start >= until or doubted:
            return Answered(answer)
        parts = (Part(table, absent=known is ABSENCE),)
        return Answered(answer, until, served.uses.of(result, parts), (sql_key,))

    def end(self, dict_: Dict, meter: LookupMeter, start: float, outcome: Outcome) -> Answer:
        """Count an answer that the database took part in, and log it if it was bad or slow."""
        answer = _answer(outcome.known)
        seconds = self._clock() - start
        meter.count(answer, outcome.source, seconds)
        if isinstance(answer, TempFail):
            log.warning(
                "dict %s: a lookup over %s failed: %s", dict_.name, self.listener, answer.reason
            )
        if seconds >= self.slow:
            log.warning(
                "slow lookup: dict %s took %.3f s over %s (%s)",
                dict_.name,
                seconds,
                self.listener,
                outcome.source.name.lower(),
            )
        return answer

    def refuse(
        self, dict_: Dict, meter: LookupMeter, start: float, answer: NotFound | PermFail | TempFail
    ) -> Answer:
        """Count an answer to a question that no table is asked, and log a refusal."""
        if not isinstance(answer, NotFound):
            log.warning(
                "dict %s: a lookup over %s was refused: %s",
                dict_.name,
                self.listener,
                answer.reason,
            )
        meter.count(answer, Source.CACHE, self._clock() - start)
        return answer

    def _meter(self, name: str) -> LookupMeter:
        return self.meters.get(name) or self.meters[""]


class DictWaiting:
    """A lookup that memory could not answer."""

    __slots__ = ("_asked", "_dict", "_meter", "_service", "_start")

    def __init__(
        self, service: DictService, dict_: Dict, meter: LookupMeter, asked: Asked, start: float
    ) -> None:
        self._service = service
        self._dict = dict_
        self._meter = meter
        self._asked = asked
        self._start = start

    def go_on(self, done: Callable[[Answer], None]) -> Answer | None:
        """Ask the database; return the answer if that can be said at once, or None: `done` gets it later."""
        asked = self._asked
        try:
            if isinstance(asked, Question):
                outcome = asked.table.ask(asked.sql_key, lambda outcome: done(self._end(outcome)))
            elif isinstance(asked, MismatchQuestion):
                outcome = asked.mismatches.ask(
                    asked.user,
                    asked.sql_key,
                    asked.original,
                    lambda outcome: done(self._end(outcome)),
                )
            else:
                return self._service.refuse(self._dict, self._meter, self._start, asked)
            return None if outcome is None else self._end(outcome)
        except Exception:
            log.exception(DEFECTIVE, self._service.listener)
            return FAILED

    def _end(self, outcome: Outcome) -> Answer:
        try:
            self._note_fetched(outcome)
            return self._service.end(self._dict, self._meter, self._start, outcome)
        except Exception:
            log.exception(DEFECTIVE, self._service.listener)
            return FAILED

    def _note_fetched(self, outcome: Outcome) -> None:
        """Note that a password was fetched: a question after a mismatch that follows need not fetch it again."""
        asked = self._asked
        if not isinstance(asked, Question) or outcome.source is not Source.DATABASE:
            return
        mismatches = self._dict.mismatches_of(asked.table)
        if mismatches is not None:
            mismatches.note_fetched(asked.sql_key)


def _answer(known: Payload | Absence | Failure) -> Answer:
    if known is ABSENCE:
        return NOT_FOUND
    if isinstance(known, Failure):
        return TempFail(known.reason)
    return Found(known if isinstance(known, bytes) else b"".join(known))
