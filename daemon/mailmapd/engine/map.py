"""Maps: what one main.cf parameter names, answered as Postfix would answer it from its own tables.

The search gives the keys to try; each key is asked in every table, in order, before the next key is tried, so that a catch-all in one table
never hides a full address in another. The first value ends the search, and so does the first table that cannot tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple

from mailmapd.cache.table_cache import NO_ROW, NoRow, Payload
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.outcome import Failure, Outcome, Source
from mailmapd.engine.table import Table
from mailmapd.errors import DataError
from mailmapd.model import NOT_FOUND, Answer, Found, NotFound, TempFail
from mailmapd.search import Search, SearchKey, propagate
from mailmapd.template.fold import fold


class MapTable(NamedTuple):
    """A table as a map uses it."""

    table: Table
    definition: PostfixDefinition
    fold: bool


class Probe(NamedTuple):
    """A question that memory cannot answer: the walk goes on when its outcome is known."""

    table: Table
    sql_key: bytes


class Part(NamedTuple):
    """A cached entry that an answer was made of: its table, and whether it said "no row"."""

    table: Table
    absent: bool


class Told(NamedTuple):
    """An answer from memory: until when all of its parts are fresh, and what they were, in order."""

    answer: Answer
    until: float
    parts: tuple[Part, ...]


class Map:
    """An ordered list of tables and a search.

    `hosted` is the map of hosted domains, if one is configured: an address in a domain that it definitely does not list is not found
    without asking the tables. `propagates` is None for maps that do not rewrite addresses; for those that do, it says whether an unmatched
    extension goes on to the result. `avoided` counts the SELECTs that memory answered and Postfix would have sent.
    """

    def __init__(
        self,
        name: str,
        tables: Sequence[MapTable],
        search: Search,
        clock: Callable[[], float],
        *,
        propagates: bool | None = None,
        hosted: Map | None = None,
    ) -> None:
        self.name = name
        self.tables = tuple(tables)
        self.search = search
        self.propagates = propagates
        self.hosted = hosted
        self.avoided = 0
        self._clock = clock

    def answer_now(self, key: bytes, now: float) -> Answer | None:
        """Return the answer if memory holds all of it, or None."""
        told = self.tell(key, now)
        return None if told is None else told.answer

    def tell(self, key: bytes, now: float) -> Told | None:
        """Return the answer with what it was made of if memory holds all of it, or None."""
        memory = _Memory(now)
        step = self._walk(key, memory)
        if isinstance(step, Probe):
            return None
        self.avoided += len(memory.parts)
        return Told(step, memory.until, tuple(memory.parts))

    async def answer(self, key: bytes) -> tuple[Answer, Source]:
        """Return the answer, asking databases for what memory lacks, and the costliest source that took part."""
        outcomes: dict[Probe, Outcome] = {}
        while True:
            memory = _Memory(self._clock(), outcomes)
            step = self._walk(key, memory)
            if not isinstance(step, Probe):
                self.avoided += len(memory.parts)
                return step, max((outcome.source for outcome in outcomes.values()), default=Source.CACHE)
            outcomes[step] = await step.table.get(step.sql_key)

    def _walk(self, key: bytes, memory: _Memory) -> Answer | Probe:
        """Search as far as memory (and the outcomes fetched so far) reaches. Decides without waiting."""
        if self.hosted is not None:
            step = self._hosted_step(key, memory)
            if step is not None:
                return step
        for search_key in self.search.keys(key):
            for table, definition, folded in self.tables:
                name = fold(search_key.key) if folded else search_key.key
                sql_key = None if name is None else definition.template.sql_key(name)
                if name is None or sql_key is None:
                    continue  # mysql_table(5) sends no query for such a key: it is not found
                known = memory.look(table, sql_key)
                if known is NO_ROW:
                    continue
                if known is None:
                    return Probe(table, sql_key)
                if isinstance(known, Failure):
                    return TempFail(known.reason)
                answer = self._value(definition, name, known, key, search_key)
                if answer is not None:
                    return answer
        return NOT_FOUND

    def _hosted_step(self, key: bytes, memory: _Memory) -> Answer | Probe | None:
        """Return NOT_FOUND for an address in a domain known not to be hosted, a probe when that is not known yet, or None to go on."""
        _, at, domain = key.rpartition(b"@")
        if not at or not domain or self.hosted is None:
            return None
        step = self.hosted._walk(domain, memory)  # noqa: SLF001 (a map of the same class)
        return step if isinstance(step, Probe | NotFound) else None

    def _value(self, definition: PostfixDefinition, name: bytes, payload: Payload, key: bytes, search_key: SearchKey) -> Answer | None:
        if isinstance(payload, bytes):
            value: bytes | None = payload
        else:
            try:
                value = definition.value(name, payload)
            except DataError as error:
                return TempFail(str(error))
        if value is None:
            return None
        if self.propagates is not None and (search_key.extension or value[:1] == b"@"):
            value = propagate(value, key, search_key.extension, self.propagates)
        return Found(value)


class _Memory:
    """What one walk sees: the tables' entries, and outcomes fetched before it. Notes the entries used, and until when all are fresh."""

    __slots__ = ("_now", "_outcomes", "parts", "until")

    def __init__(self, now: float, outcomes: dict[Probe, Outcome] | None = None) -> None:
        self.parts: list[Part] = []
        self.until = inf
        self._now = now
        self._outcomes = outcomes

    def look(self, table: Table, sql_key: bytes) -> Payload | NoRow | Failure | None:
        """Return what is known, or None."""
        if self._outcomes:
            outcome = self._outcomes.get(Probe(table, sql_key))
            if outcome is not None:
                return outcome.known
        entry = table.entry(sql_key, self._now)
        if entry is None:
            return None
        known, until = entry
        self.parts.append(Part(table, known is NO_ROW))
        self.until = min(self.until, until)
        return known
