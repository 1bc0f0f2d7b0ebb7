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


class Part(NamedTuple):
    """A cached entry that an answer was made of: its table, and whether it said "no row"."""

    table: Table
    absent: bool


class MapTable:
    """A table as a map uses it."""

    __slots__ = ("absent_part", "definition", "fold", "present_part", "present_parts", "sql_key", "table")

    def __init__(self, table: Table, definition: PostfixDefinition, *, fold: bool) -> None:
        self.table = table
        self.definition = definition
        self.fold = fold
        self.sql_key = definition.template.sql_key
        self.present_part = Part(table, absent=False)
        self.present_parts = (self.present_part,)
        self.absent_part = Part(table, absent=True)


_PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+=@"
"""The bytes of plain addresses: nothing to quote, nothing to fold but ASCII."""

_EDGES = b"@."
"""What a plain address neither begins nor ends with."""

_SAMPLE = b"user@example.com"


class Probe(NamedTuple):
    """A question that memory cannot answer: the walk goes on when its outcome is known."""

    table: Table
    sql_key: bytes


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
        first = self.tables[0]
        asks_itself = tuple(search.keys(_SAMPLE)[:1]) == (SearchKey(_SAMPLE, b""),)
        self._plain_first_step = hosted is None and first.fold and first.definition.template.identity and asks_itself

    def answer_now(self, key: bytes, now: float) -> Answer | None:
        """Return the answer if memory holds all of it, or None."""
        told = self.tell(key, now)
        return None if told is None else told.answer

    def tell(self, key: bytes, now: float) -> Told | None:
        """Return the answer with what it was made of if memory holds all of it, or None."""
        told = self._tell_plainly(key, now)
        if told is not None:
            return told
        parts: list[Part] = []
        step, until = self._walk(key, now, parts, None)
        if isinstance(step, Probe):
            return None
        self.avoided += len(parts)
        return Told(step, until, tuple(parts))

    def _tell_plainly(self, key: bytes, now: float) -> Told | None:
        """Return what the walk would find at its first step, in the usual case: a plain address that the first table holds, fresh.

        None says nothing: the walk decides. This is half of the time of a walk.
        """
        if not self._plain_first_step or b"@" not in key or key.translate(None, _PLAIN) or key[0] in _EDGES or key[-1] in _EDGES:
            return None
        place = self.tables[0]
        entry = place.table.cache.peek(key.lower(), now)
        if entry is None or now >= entry[1]:
            return None
        payload = entry[0]
        if not isinstance(payload, bytes) or (self.propagates is not None and payload.startswith(b"@")):
            return None
        place.table.hits += 1
        self.avoided += 1
        return Told(Found(payload), entry[1], place.present_parts)

    async def answer(self, key: bytes) -> tuple[Answer, Source]:
        """Return the answer, asking databases for what memory lacks, and the costliest source that took part."""
        outcomes: dict[Probe, Outcome] = {}
        while True:
            parts: list[Part] = []
            step, _ = self._walk(key, self._clock(), parts, outcomes)
            if not isinstance(step, Probe):
                self.avoided += len(parts)
                return step, max((outcome.source for outcome in outcomes.values()), default=Source.CACHE)
            outcomes[step] = await step.table.get(step.sql_key)

    def _walk(self, key: bytes, now: float, parts: list[Part], outcomes: dict[Probe, Outcome] | None) -> tuple[Answer | Probe, float]:
        """Search as far as memory (and the outcomes fetched so far) reaches. Decides without waiting.

        Adds to `parts` the cached entries it used; returns with the answer until when all of them are fresh.
        """
        until = inf
        if self.hosted is not None:
            step, until = self._hosted_step(key, now, parts, outcomes)
            if step is not None:
                return step, until
        for search_key in self.search.keys(key):
            for place in self.tables:
                name = fold(search_key.key) if place.fold else search_key.key
                sql_key = None if name is None else place.sql_key(name)
                if name is None or sql_key is None:
                    continue  # mysql_table(5) sends no query for such a key: it is not found
                known = _fetched(outcomes, place.table, sql_key) if outcomes else None
                if known is None:
                    entry = place.table.entry(sql_key, now)
                    if entry is None:
                        return Probe(place.table, sql_key), until
                    known, fresh_until = entry
                    until = min(until, fresh_until)
                    parts.append(place.absent_part if known is NO_ROW else place.present_part)
                if known is NO_ROW:
                    continue
                if isinstance(known, Failure):
                    return TempFail(known.reason), until
                answer = self._value(place.definition, name, known, key, search_key)
                if answer is not None:
                    return answer, until
        return NOT_FOUND, until

    def _hosted_step(
        self, key: bytes, now: float, parts: list[Part], outcomes: dict[Probe, Outcome] | None
    ) -> tuple[Answer | Probe | None, float]:
        """Return NOT_FOUND for an address in a domain known not to be hosted, a probe when that is not known yet, or None to go on."""
        _, at, domain = key.rpartition(b"@")
        if not at or not domain or self.hosted is None:
            return None, inf
        step, until = self.hosted._walk(domain, now, parts, outcomes)  # noqa: SLF001 (a map of the same class)
        return (step if isinstance(step, Probe | NotFound) else None), until

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


def _fetched(outcomes: dict[Probe, Outcome], table: Table, sql_key: bytes) -> Payload | NoRow | Failure | None:
    outcome = outcomes.get(Probe(table, sql_key))
    return None if outcome is None else outcome.known
