"""Tables: one SQL query each, answered from memory where possible.

    peek   what is known now, without waiting
    get    what is known, or what the database says, or what was known a while ago when the database cannot say

Equal misses share one query. A row that cannot be used, or a key that the database cannot evaluate, fails that key alone and is remembered
briefly; a query that does not fit the database's schema fails the table at once, and is tried again every `SCHEMA_RETRY` seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from cachetools import TTLCache

from mailmapd.cache.budget import Budget
from mailmapd.cache.table_cache import NO_ROW, Entry, NoRow, Payload, TableCache
from mailmapd.databases.interface import Database
from mailmapd.engine.definition import Definition
from mailmapd.engine.outcome import Failure, Outcome, Source
from mailmapd.errors import DatabaseError, DataError, SchemaError
from mailmapd.single_flight import SingleFlight

log = logging.getLogger(__name__)

POISON_MEMORY = 5.0  # seconds for which a key that the database cannot evaluate is not asked again
POISON_KEYS = 10_000  # how many such keys are remembered
SCHEMA_RETRY = 1.0  # seconds between tries of a query that does not fit the schema
REFRESH_RETRY = 0.5  # seconds without new background fetches after one found the database away
STALE_PATIENCE = 0.25  # seconds to wait for a database that should answer, while a stale answer is at hand; then for none until it answers

Known = Payload | NoRow | Failure


class Table:
    """One query over one database, with its cache. The counters are plain integers, read when somebody looks.

    `flushed` is a list while entries are loaded from elsewhere: each flush adds what tells whether it covers a key.
    """

    def __init__(
        self, name: str, definition: Definition, database: Database, cache: TableCache, clock: Callable[[], float], *, secret: bool = False
    ) -> None:
        self.name = name
        self.definition = definition
        self.database = database
        self.cache = cache
        self.secret = secret
        self.schema_error = ""
        self.flushed: list[Callable[[bytes], bool]] | None = None
        self.hits = self.negative_hits = self.stale = self.coalesced = self.misses = 0
        self._clock = clock
        self._flights: SingleFlight[Known] = SingleFlight()
        self._poison: TTLCache[bytes, Failure] = TTLCache(POISON_KEYS, POISON_MEMORY, timer=clock)
        self._schema_retry_at = self._refresh_retry_at = 0.0
        self._silent = False  # the database keeps us waiting: it has not answered since a stale answer had to stand in for it

    def peek(self, sql_key: bytes, now: float) -> Payload | NoRow | None:
        """Return what is known of a key without asking anybody, or None. A key in its refresh age is fetched anew in the background."""
        entry = self.entry(sql_key, now)
        return None if entry is None else entry[0]

    def entry(self, sql_key: bytes, now: float) -> Entry | None:
        """Do what `peek` does; return until when it is fresh, too."""
        entry = self.cache.peek(sql_key, now)
        if entry is None:
            return None
        if entry[0] is NO_ROW:
            self.negative_hits += 1
        else:
            self.hits += 1
            if now >= entry[1]:
                self._refresh(sql_key)
        return entry

    async def get(self, sql_key: bytes) -> Outcome:
        """Return what the database, or failing it the past, says of a key that `peek` does not know."""
        now = self._clock()
        stale = self.cache.stale(sql_key, now)
        failure = self._known_failure(sql_key, now)
        if failure is not None:
            return self._fall_back(stale, failure)
        if stale is not None and (self._silent or not any(host.up for host in self.database.status())):
            self._refresh(sql_key)
            return self._fall_back(stale, Failure(""))
        flight = self._join(sql_key)
        if stale is not None:
            done, _ = await asyncio.wait({flight}, timeout=STALE_PATIENCE)
            if not done:
                self._silent = True
                return self._fall_back(stale, Failure(""))
        known = await asyncio.shield(flight)
        return self._fall_back(stale, known) if isinstance(known, Failure) else Outcome(known, Source.DATABASE)

    def drop(self, sql_key: bytes) -> bool:
        """Forget a key; a query already on its way will not bring the old answer back. Return whether anything was known."""
        self._flights.forget(sql_key)
        self._poison.pop(sql_key, None)
        return self.cache.drop(sql_key)

    def clear(self) -> list[Budget]:
        """Forget every key at once; return the old entries, for the caller to free in slices."""
        self._flights.forget_all()
        self._poison.clear()
        return self.cache.clear()

    def keys(self) -> list[bytes]:
        """Return every key that something is known of, or will be when a query on its way comes back."""
        keys = self.cache.keys()
        keys += self._flights
        keys += self._poison
        return keys

    def _refresh(self, sql_key: bytes) -> None:
        now = self._clock()
        if now >= self._refresh_retry_at and self._flights.find(sql_key) is None and self._known_failure(sql_key, now) is None:
            self._flights.start(sql_key, lambda: self._fetch(sql_key))

    def _join(self, sql_key: bytes) -> asyncio.Task[Known]:
        flight = self._flights.find(sql_key)
        if flight is None:
            self.misses += 1
            return self._flights.start(sql_key, lambda: self._fetch(sql_key))
        self.coalesced += 1
        return flight

    def _known_failure(self, sql_key: bytes, now: float) -> Failure | None:
        if self.schema_error and now < self._schema_retry_at:
            return Failure(self.schema_error)
        return self._poison.get(sql_key)

    def _fall_back(self, stale: Payload | NoRow | None, known: Known) -> Outcome:
        if stale is None:
            return Outcome(known, Source.DATABASE)
        self.stale += 1
        return Outcome(stale, Source.STALE)

    async def _fetch(self, sql_key: bytes) -> Known:
        if self.schema_error:
            self._schema_retry_at = self._clock() + SCHEMA_RETRY
        try:
            result = await self.database.fetch(self.definition.statement(sql_key))
            payload = self.definition.payload(result)
        except DatabaseError as error:
            return self._failed(sql_key, error)
        self._silent = False
        if self.schema_error:
            log.warning("table %s: the query works again", self.name)
            self.schema_error = ""
        found = NO_ROW if payload is None else payload
        if self._flights.wanted(sql_key):
            self.cache.store(sql_key, found, self._clock())
        return found

    def _failed(self, sql_key: bytes, error: DatabaseError) -> Failure:
        failure = Failure(str(error))
        if isinstance(error, DataError | SchemaError):
            self._silent = False
        if isinstance(error, DataError):
            self._poison[sql_key] = failure
        elif isinstance(error, SchemaError):
            if not self.schema_error:
                log.error("table %s: %s", self.name, error)
            self.schema_error = str(error)
            self._schema_retry_at = self._clock() + SCHEMA_RETRY
        else:
            self._refresh_retry_at = self._clock() + REFRESH_RETRY
        return failure
