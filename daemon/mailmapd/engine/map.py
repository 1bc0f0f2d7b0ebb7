"""Maps: what one main.cf parameter names, answered as Postfix would answer it from its own tables.

The search gives the keys to try; each key is asked in every table, in order, before the next key is tried, so that a catch-all in one table
never hides a full address in another. The first value ends the search, and so does the first table that cannot tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        step = self._walk(key, now, None)
        return None if isinstance(step, Probe) else step

    async def answer(self, key: bytes) -> tuple[Answer, Source]:
        """Return the answer, asking databases for what memory lacks, and the costliest source that took part."""
        outcomes: dict[Probe, Outcome] = {}
        while True:
            step = self._walk(key, self._clock(), outcomes)
            if not isinstance(step, Probe):
                return step, max((outcome.source for outcome in outcomes.values()), default=Source.CACHE)
            outcomes[step] = await step.table.get(step.sql_key)

    def _walk(self, key: bytes, now: float, outcomes: dict[Probe, Outcome] | None) -> Answer | Probe:
        """Search as far as memory (and the outcomes fetched so far) reaches. Decides without waiting."""
        if self.hosted is not None:
            step = self._hosted_step(key, now, outcomes)
            if step is not None:
                return step
        for search_key in self.search.keys(key):
            for table, definition, folded in self.tables:
                name = fold(search_key.key) if folded else search_key.key
                sql_key = None if name is None else definition.template.sql_key(name)
                if name is None or sql_key is None:
                    continue  # mysql_table(5) sends no query for such a key: it is not found
                known: Payload | NoRow | Failure | None = (
                    outcomes[Probe(table, sql_key)].known if outcomes and Probe(table, sql_key) in outcomes else None
                )
                if known is None:
                    known = table.peek(sql_key, now)
                    if known is None:
                        return Probe(table, sql_key)
                    self.avoided += 1
                if known is NO_ROW:
                    continue
                if isinstance(known, Failure):
                    return TempFail(known.reason)
                answer = self._value(definition, name, known, key, search_key)
                if answer is not None:
                    return answer
        return NOT_FOUND

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

    def _hosted_step(self, key: bytes, now: float, outcomes: dict[Probe, Outcome] | None) -> Answer | Probe | None:
        """Return NOT_FOUND for an address in a domain known not to be hosted, a probe when that is not known yet, or None to go on."""
        _, at, domain = key.rpartition(b"@")
        if not at or not domain or self.hosted is None:
            return None
        step = self.hosted._walk(domain, now, outcomes)  # noqa: SLF001 (a map of the same class)
        return step if isinstance(step, Probe | NotFound) else None
