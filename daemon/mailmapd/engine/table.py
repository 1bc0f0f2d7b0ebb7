"""Tables: one SQL query each, answered from memory where possible.

    entry  what is known now, without waiting
    ask    what is known, or what the database says, or what was known a while ago; `done` later if need be
    get    the same for a coroutine

Equal misses share one query. A table is the cache's side of it: ages, flights and what they count
for; where answers come from is its `Origin`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

from mailmapd.cache.budget import Budget
from mailmapd.cache.table_cache import ABSENCE, Absence, Entry, Payload, TableCache
from mailmapd.engine.invalidation import Invalidation, TouchedSince
from mailmapd.engine.origin import Origin
from mailmapd.engine.outcome import Failure, Known, Outcome, Source
from mailmapd.errors import DEFECT
from mailmapd.single_flight import Flight, SingleFlight

log = logging.getLogger(__name__)

_new = tuple.__new__  # Outcome(…) without its Python-level __new__

# Queries of the table on their way with which background fetches stand back: a lookup that has
# no answer goes first
REFRESHES = 32


class Watch(Protocol):
    """Knows of changes of the rows that a table reads, while that is proven."""

    def lifetime(self, sql_key: bytes, absent: bool) -> float | None:
        """Return for how many seconds an answer that was fetched just now is good, or None: the ordinary time."""
        ...


class Table:
    """One query, answered from memory or by its origin. The counters are plain integers, read when somebody looks.

    `touched` is there while entries are loaded from elsewhere: what was touched since is not to be believed of them.
    `invalidations` are counted by grade, `audits` by result. `watch` is there while
    changes of what the query reads are followed.
    """

    def __init__(
        self,
        name: str,
        origin: Origin,
        cache: TableCache,
        clock: Callable[[], float],
        *,
        secret: bool = False,
    ) -> None:
        self.name = name
        self.origin = origin
        self.definition = origin.definition
        self.database = origin.database
        self.cache = cache
        self.secret = secret
        self.touched: TouchedSince | None = None
        self._watch: Watch | None = None
        self._watched_since = 0.0
        self.invalidations = dict.fromkeys(("key", "reverse", "table", "distrust"), 0)
        self.audits = dict.fromkeys(("same", "outdated", "failed"), 0)
        self.hits = self.negative_hits = self.stale = self.coalesced = self.misses = 0
        self._clock = clock
        self._flights: SingleFlight[Outcome] = SingleFlight()

    @property
    def schema_error(self) -> str:
        """Return why no query of the table works now, or an empty text."""
        return self.origin.schema_error

    @property
    def watch(self) -> Watch | None:
        """Return what knows of changes, while that is proven."""
        return self._watch

    @watch.setter
    def watch(self, watch: Watch | None) -> None:
        self._watch = watch
        self._watched_since = self._clock()

    def known_for(self, sql_key: bytes, now: float) -> float | None:
        """Return how many seconds ago the database said what memory holds of a key, if that can be told."""
        watched = (
            self._watch is not None and self._watch.lifetime(sql_key, absent=False) is not None
        )
        longer_since = self._watched_since if watched else float("inf")
        stored = self.cache.stored_at(sql_key, now, longer_since)
        return None if stored is None else max(0.0, now - stored)

    def count_on(self, former: Table) -> None:
        """Count on from where the table that had this name before stands."""
        self.hits, self.negative_hits, self.stale = former.hits, former.negative_hits, former.stale
        self.coalesced, self.misses = former.coalesced, former.misses
        # Copies: what is left of the former one is yet to be freed, which is no invalidation of this one
        self.invalidations, self.audits = dict(former.invalidations), dict(former.audits)
        self.cache.rows.evictions, self.cache.absences.evictions = (
            former.cache.rows.evictions,
            former.cache.absences.evictions,
        )

    def entry(self, sql_key: bytes, now: float) -> Entry | None:
        """Return what is known of a key and until when it is fresh, without asking anybody, or None.

        A key in its refresh age is fetched anew in the background.
        """
        entry = self.cache.get(sql_key, now)
        if entry is None:
            return None
        if entry[0] is ABSENCE:
            self.negative_hits += 1
        else:
            self.hits += 1
        if now >= entry[1]:
            self._refresh(sql_key)
        return entry

    def ask(self, sql_key: bytes, done: Callable[[Outcome], None]) -> Outcome | None:
        """Return what can be said now of a key that `entry` does not know.

        When that is None, `done` gets what the database says, later.
        """
        now = self._clock()
        stale = self.cache.stale(sql_key, now)
        failure = self.origin.refusal(sql_key, now)
        if failure is not None:
            return self._fall_back(stale, failure)
        if stale is None:
            self._join(sql_key).join(done)
            return None
        if self.origin.away():
            self._refresh(sql_key)
            return self._fall_back(stale, Failure(""))
        self._join_for_a_moment(sql_key, stale, done)
        return None

    async def get(self, sql_key: bytes) -> Outcome:
        """Return what the database, or failing it the past, says of a key that `entry` does not know."""
        later: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        outcome = self.ask(
            sql_key, lambda outcome: None if later.done() else later.set_result(outcome)
        )
        return await later if outcome is None else outcome

    def renew(self, sql_key: bytes, done: Callable[[Outcome], None]) -> Flight[Outcome]:
        """Ask the origin for a key, whatever memory holds; `done` gets what it says, later.

        A query that is on its way was perhaps sent too early; what it brings is not kept. Return the new one's flight.
        """
        self._flights.forget(sql_key)
        self.misses += 1
        flight = self._flights.start(sql_key)
        flight.join(done)
        self.origin.renew(sql_key, partial(self._land, sql_key, flight))
        return flight

    def awaits(self, sql_key: bytes, flight: Flight[Outcome]) -> bool:
        """Return whether what a flight brings will be kept: it is on its way, and was not cut loose."""
        return self._flights.find(sql_key) is flight

    def fetch_ahead(self, sql_key: bytes, done: Callable[[Outcome], None]) -> bool:
        """Ask the origin for a key before anybody does; return whether `done` gets what it says, later.

        Not if something is known of the key or on its way, or the origin would not answer.
        """
        now = self._clock()
        if (
            self.origin.spared(now)
            or self._flights.find(sql_key) is not None
            or self.cache.peek(sql_key) is not None
            or self.origin.refusal(sql_key, now) is not None
        ):
            return False
        self._start(sql_key).join(done)
        return True

    def apply(self, invalidation: Invalidation) -> tuple[int, list[Budget]]:
        """Forget what an invalidation says of this table; return how many entries were known, and what is to be freed.

        A query that is on its way is answered, and what it brings is not kept.
        """
        keys = invalidation.keys
        self.invalidations[invalidation.grade] += 1 if keys is None else len(keys)
        if invalidation.before is not None:
            self._flights.forget_all()
            if invalidation.doubt:
                self.cache.doubt(invalidation.before)
            else:
                self.cache.distrust(invalidation.before)
            return 0, []
        if self.touched is not None:
            self.touched.add(keys, unseen=invalidation.unseen)
        if keys is not None:
            self.origin.forget(keys)
            return sum(self._drop(key) for key in keys), []
        self._flights.forget_all()
        self.origin.forget_all()
        old = self.cache.clear()
        return sum(len(budget) for budget in old), old

    def cut_flights(self) -> None:
        """Keep nothing of what is on its way now; whoever asks next starts anew."""
        self._flights.forget_all()

    def _drop(self, sql_key: bytes) -> bool:
        self._flights.forget(sql_key)
        return self.cache.drop(sql_key)

    def keys(self) -> list[bytes]:
        """Return every key that something is known of, or will be when a query on its way comes back."""
        keys = self.cache.keys()
        keys += self._flights
        keys += self.origin.refused()
        return keys

    def _refresh(self, sql_key: bytes) -> None:
        now = self._clock()
        if self.origin.spared(now) or len(self._flights) >= REFRESHES:
            return
        if self._flights.find(sql_key) is None and self.origin.refusal(sql_key, now) is None:
            self._start(sql_key)

    def _join(self, sql_key: bytes) -> Flight[Outcome]:
        flight = self._flights.find(sql_key)
        if flight is None:
            self.misses += 1
            return self._start(sql_key)
        self.coalesced += 1
        return flight

    def _join_for_a_moment(
        self, sql_key: bytes, stale: Payload | Absence, done: Callable[[Outcome], None]
    ) -> None:
        """Join the key's flight, but take the stale answer if that fails, or does not land soon."""
        waiting = True

        def tell(outcome: Outcome) -> None:
            nonlocal waiting
            if waiting:
                waiting = False
                patience.cancel()
                done(
                    self._fall_back(stale, outcome.known)
                    if isinstance(outcome.known, Failure)
                    else outcome
                )

        def lose_patience() -> None:
            self.origin.lose_patience()
            tell(Outcome(Failure(""), Source.DATABASE))

        patience = asyncio.get_running_loop().call_later(self.origin.patience, lose_patience)
        self._join(sql_key).join(tell)

    def _fall_back(self, stale: Payload | Absence | None, failure: Failure) -> Outcome:
        if stale is None:
            return Outcome(failure, Source.DATABASE)
        self.stale += 1
        return Outcome(stale, Source.STALE)

    def _start(self, sql_key: bytes) -> Flight[Outcome]:
        """Have the origin asked for a key."""
        flight = self._flights.start(sql_key)
        self.origin.fetch(sql_key, partial(self._land, sql_key, flight))
        return flight

    def _land(
        self, sql_key: bytes, flight: Flight[Outcome], known: Known, left: float | None = None
    ) -> None:
        """Keep what the origin said, unless it was touched meanwhile, and tell everybody who asked."""
        wanted = self._flights.end(sql_key, flight)
        if isinstance(known, Failure):
            if known.lasts and not wanted:
                self.origin.forget((sql_key,))
        elif wanted:
            try:
                self.keep(sql_key, known, left)
            except Exception:
                log.exception("table %s: rows could not be kept: a defect of mailmapd", self.name)
                known = Failure(DEFECT)
        if left is None or left > 0:
            flight.land(_new(Outcome, (known, Source.DATABASE)))
        else:
            self.stale += 1
            flight.land(Outcome(known, Source.STALE))

    def keep(self, sql_key: bytes, known: Payload | Absence, left: float | None = None) -> None:
        """Keep what the database says of a key now, or has said before: for `left` seconds more, as `Done` gets it."""
        now, watch = self._clock(), self._watch
        if left is not None and left <= 0:
            self.cache.restore(sql_key, (known, now + left), now)
            return
        lifetime = None if watch is None else watch.lifetime(sql_key, known is ABSENCE)
        if left is not None and lifetime is not None:
            now -= max(lifetime - left, 0.0)  # when the database said so
        self.cache.store(sql_key, known, now, lifetime)
