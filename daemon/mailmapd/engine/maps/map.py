"""Maps: what one main.cf parameter names, answered as Postfix would answer it from its own tables.

The search gives the keys to try; each key is asked in every table, in order, before the next key is
tried, so that a catch-all in one table never hides a full address in another. The first value ends
the search, and so does the first table that cannot tell.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Sequence
from math import inf
from typing import NamedTuple

from mailmapd.cache.table_cache import ABSENCE, Payload
from mailmapd.engine.answered import Part
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.outcome import Failure, Known, Outcome, Source
from mailmapd.engine.table import Table
from mailmapd.errors import DEFECT, DataError
from mailmapd.model import NOT_FOUND, Answer, Found, NotFound, TempFail
from mailmapd.search import Search, SearchKey, propagate
from mailmapd.template.fold import Fold, fold, fold_ascii

log = logging.getLogger(__name__)

_new = tuple.__new__  # Probe(…) and Found(…) without their Python-level __new__


class MapTable:
    """A table as a map uses it, and what the map does to a key before it asks."""

    __slots__ = (
        "absent_part",
        "definition",
        "fold",
        "present_part",
        "present_parts",
        "sql_key",
        "table",
    )

    def __init__(self, table: Table, definition: PostfixDefinition, *, fold: Fold) -> None:
        self.table = table
        self.definition = definition
        self.fold = fold
        self.sql_key = definition.template.sql_key
        self.present_part = Part(table, absent=False)
        self.present_parts = (self.present_part,)
        self.absent_part = Part(table, absent=True)


_PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+=@"
"""The bytes of plain addresses: nothing to quote, nothing to fold but ASCII."""

_FOLDED = bytes([byte if bytes([byte]).lower() in _PLAIN else 0 for byte in range(256)]).lower()
"""For `bytes.translate`: folds a plain address, and puts NUL in the place of what makes it none."""

_NUL, _AT = 0, ord("@")  # numbers are found eight times as fast as bytes in bytes
_EDGES = frozenset(b"@.")
"""Characters that a plain address neither begins nor ends with."""

_SAMPLE = b"user@example.com"


class Probe(NamedTuple):
    """A question that memory cannot answer: the walk stops there, and goes on with its outcome."""

    table: Table
    sql_key: bytes


class Told(NamedTuple):
    """An answer from memory: until when all of its parts are fresh, what they were and their SQL keys, in order."""

    answer: Answer
    until: float
    parts: tuple[Part, ...]
    keys: tuple[bytes, ...]


Plain = tuple[bytes, float, bytes]
"""A value that the first table holds under the SQL key that comes last, and until when it is fresh."""


class WalkWatcher:
    """Told what a walk does with each key that memory does not answer; this one does not care."""

    def asks(self, place: MapTable, search_key: SearchKey, name: bytes) -> None:
        """Hear that the walk comes to a query, which it yields next; `name` is what the table makes of the key."""

    def repeats(self, place: MapTable, search_key: SearchKey, name: bytes, probe: Probe) -> None:
        """Hear that the walk needs an outcome again that it has got before."""

    def passes(self, place: MapTable, search_key: SearchKey, name: bytes | None) -> None:
        """Hear that the table sends no query for the key; `name` is None if it cannot fold it."""


_UNWATCHED = WalkWatcher()

Walk = Generator[Probe, Outcome, tuple[Answer, float]]


class Map:
    """An ordered list of tables and a search.

    `hosted` is the map of hosted domains, if one is configured: an address in a domain that it
    definitely does not list is not found without asking the tables. `propagates` is None for maps
    that do not rewrite addresses; for those that do, it says whether an unmatched extension goes on
    to the result. `avoided` counts the SELECTs that memory answered and Postfix would have sent.
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
        # Whether every walk begins with the key itself in the first table, so that a value there ends it
        asks_itself = tuple(search.keys(_SAMPLE)[:1]) == (SearchKey(_SAMPLE, b""),)
        self._plain_first_step = (
            hosted is None
            and first.fold in (fold, fold_ascii)
            and first.definition.template.identity_of_addresses
            and asks_itself
        )
        self._held_first = first.table.cache.held

    def tell(self, key: bytes, now: float) -> Told | Lookup:
        """Return the answer with its parts if memory holds all of it, or else the lookup that goes on."""
        parts: list[Part] = []
        keys: list[bytes] = []
        walk = self._walk(key, now, parts, keys)
        try:
            probe = next(walk)
        except StopIteration as end:
            self.avoided += len(parts)
            answer, until = end.value
            return Told(answer, until, tuple(parts), tuple(keys))
        return Lookup(self, walk, probe, parts)

    def tell_plainly(self, key: bytes, now: float) -> Plain | None:
        """Return what the walk would find at its first step, in the usual case.

        A plain address that the first table holds, fresh. It is for the caller to count that.

        None says nothing: the walk decides. This is a third of the time of a walk.
        """
        if not self._plain_first_step:
            return None
        sql_key = key.translate(_FOLDED)
        if _NUL in sql_key or _AT not in sql_key or sql_key[0] in _EDGES or sql_key[-1] in _EDGES:
            return None
        held = self._held_first(sql_key, now)
        if held is None:
            return None
        value, until = held
        if self.propagates is not None and value.startswith(b"@"):
            return None  # the user's name goes in front of it, which the walk does
        return value, until, sql_key

    async def answer(self, key: bytes) -> tuple[Answer, Source]:
        """Return the answer, asking databases for what memory lacks, and the costliest source that took part."""
        found = self.tell(key, self._clock())
        if isinstance(found, Told):
            return found.answer, Source.CACHE
        later: asyncio.Future[tuple[Answer, Source]] = asyncio.get_running_loop().create_future()
        ended = found.go_on(
            lambda answer, source: None if later.done() else later.set_result((answer, source))
        )
        return await later if ended is None else ended

    def walk(self, key: bytes, now: float, watcher: WalkWatcher) -> Walk:
        """Return the walk of a lookup for somebody who watches it: see `_walk`."""
        return self._walk(key, now, [], [], watcher)

    def _walk(
        self,
        key: bytes,
        now: float,
        parts: list[Part],
        keys: list[bytes],
        watcher: WalkWatcher = _UNWATCHED,
    ) -> Walk:
        """Yield each probe that memory cannot answer, take its outcome; end with the answer and how long it is fresh.

        Adds to `parts` and `keys` the cached entries that were used.
        """
        until = inf
        if self.hosted is not None:
            domain = key.rpartition(b"@")[2]
            if domain and len(domain) < len(key):
                # A map of the same class
                hosted_walk = self.hosted._walk(domain, now, parts, keys, watcher)  # noqa: SLF001
                hosted, until = yield from hosted_walk
                if isinstance(hosted, NotFound):
                    return NOT_FOUND, until
                now = self._clock()
        fetched: dict[Probe, Known] = {}
        for search_key in self.search.keys(key):
            for place in self.tables:
                name = place.fold(search_key.key)
                sql_key = None if name is None else place.sql_key(name)
                if name is None or sql_key is None:
                    # mysql_table(5) sends no query for such a key: it is not found
                    watcher.passes(place, search_key, name)
                    continue
                known = fetched.get(Probe(place.table, sql_key)) if fetched else None
                if known is None:
                    entry = place.table.entry(sql_key, now)
                    if entry is not None:
                        known, fresh_until = entry
                        until = min(until, fresh_until)
                        parts.append(place.absent_part if known is ABSENCE else place.present_part)
                        keys.append(sql_key)
                    else:
                        probe = _new(Probe, (place.table, sql_key))
                        watcher.asks(place, search_key, name)
                        known = fetched[probe] = (yield probe).known
                        now = self._clock()
                else:
                    watcher.repeats(place, search_key, name, Probe(place.table, sql_key))
                if known is ABSENCE:
                    continue
                if isinstance(known, Failure):
                    return TempFail(known.reason), until
                answer = self._value(place.definition, name, known, key, search_key)
                if answer is not None:
                    return answer, until
        return NOT_FOUND, until

    def _value(
        self,
        definition: PostfixDefinition,
        name: bytes,
        payload: Payload,
        key: bytes,
        search_key: SearchKey,
    ) -> Answer | None:
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
        return _new(Found, (value,))


class Lookup:
    """A search that memory could not end. It goes on with each outcome, in the very callback that tells it."""

    __slots__ = ("_done", "_map", "_parts", "_probe", "_source", "_walk")

    def __init__(self, map_: Map, walk: Walk, probe: Probe, parts: list[Part]) -> None:
        self._map = map_
        self._walk = walk
        self._probe = probe
        self._parts = parts
        self._source = Source.CACHE
        self._done: Callable[[Answer, Source], None]

    def go_on(self, done: Callable[[Answer, Source], None]) -> tuple[Answer, Source] | None:
        """Ask the tables.

        Return the answer and the costliest source that took part, or None when `done` gets both
        later.
        """
        self._done = done
        outcome = self._probe.table.ask(self._probe.sql_key, self._hear)
        return None if outcome is None else self._advance(outcome)

    def _hear(self, outcome: Outcome) -> None:
        try:
            ended = self._advance(outcome)
        except Exception:
            log.exception("map %s: a lookup failed: a defect of mailmapd", self._map.name)
            ended = TempFail(DEFECT), self._source
        if ended is not None:
            self._done(*ended)

    def _advance(self, outcome: Outcome) -> tuple[Answer, Source] | None:
        """Walk on until a probe must wait, or the search ends."""
        walk = self._walk
        while True:
            self._source = max(self._source, outcome.source)
            try:
                probe = walk.send(outcome)
            except StopIteration as end:
                self._map.avoided += len(self._parts)
                return end.value[0], self._source
            at_once = probe.table.ask(probe.sql_key, self._hear)
            if at_once is None:
                return None
            outcome = at_once
