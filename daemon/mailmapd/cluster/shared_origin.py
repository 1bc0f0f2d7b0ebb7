"""An origin in front of the database's: what another host has asked lately is not asked again.

fetch ─┬─ changes are not proven to be known ───────── database
       └─ ask the second level ─┬─ believed ───────── kept for what is left of its time
                                └─ nothing, a token ─ database ── shared while the token stands
and when the database cannot tell: what was shared stands in for it, as old as it is
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Protocol

from mailmapd.cache.table_cache import ABSENCE, KEPT_KEY, Absence, Payload
from mailmapd.cluster.exchange import NOTHING, Exchange, Fill, Question, Reply
from mailmapd.cluster.sealing import Sealer
from mailmapd.cluster.shared_answer import MOST_BYTES, Place, SharedAnswer, decode, digest_of
from mailmapd.engine.origin import Done, Origin
from mailmapd.engine.outcome import Failure, Known
from mailmapd.engine.table import Table

log = logging.getLogger(__name__)

SHORTEST = 60.0
"""Seconds for which an answer must be good at least, whenever it is asked for anew, or the database is asked."""

_SKEW = 300.0  # seconds by which the clocks of two hosts may differ


class Trust(Protocol):
    """Knows what may be believed of the second level at this moment."""

    def history(self) -> str:
        """Return whose history the server has that carries the stream, or nothing while that is not known."""
        ...

    def may_ask(self, table: str, sql_key: bytes) -> bool:
        """Return whether nothing is known of a key that the second level may not know yet."""
        ...

    def place(self, table: str) -> Place | None:
        """Return where this host stands if changes of the table's rows are known now, else None."""
        ...

    def believes(self, table: str, answer: SharedAnswer) -> bool:
        """Return whether all that changed since the answer was asked for was told, and will be told."""
        ...


class _Asked(NamedTuple):
    """A key that was asked for: its names in the second level, where this host stood, and when it was."""

    sql_key: bytes
    done: Done
    value: bytes
    guard: bytes
    place: Place
    at: float


class SharedOrigin:
    """Stands in front of a table's origin; `digest` says what the table asks, whatever it is called."""

    def __init__(
        self,
        table: Table,
        digest: str,
        *,
        exchange: Exchange,
        sealer: Sealer,
        trust: Trust,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.inner: Origin = table.origin
        self.definition = table.definition
        self.database = table.database
        self.patience = self.inner.patience
        self.counts = dict.fromkeys(
            ("hit", "miss", "disbelieved", "garbage", "stale", "skipped"), 0
        )
        self._table = table
        self._digest = digest
        self._exchange = exchange
        self._sealer = sealer
        self._trust = trust
        self._wall_clock = wall_clock
        self._marks = (sealer.mark(), sealer.mark(digest))

    @property
    def schema_error(self) -> str:
        """Return why no query of the table works now, or an empty text."""
        return self.inner.schema_error

    def fetch(self, sql_key: bytes, done: Done) -> None:
        """Ask the second level, if it can be believed, and the database if that says nothing."""
        place = self._place(sql_key)
        if place is None:
            self.counts["skipped"] += 1
            self.inner.fetch(sql_key, partial(self._fetched_alone, sql_key, done))
            return
        value, guard = self._sealer.answer(self._digest, sql_key)
        asked = _Asked(sql_key, done, value, guard, place, self._wall_clock())
        question = Question(self._marks, value, guard, partial(self._heard, asked))
        self._exchange.ask(question)

    def renew(self, sql_key: bytes, done: Callable[[Known], None]) -> None:
        """Ask the database, whatever anybody else knows."""
        self.inner.renew(sql_key, done)

    def refusal(self, sql_key: bytes, now: float) -> Failure | None:
        """Return how asking the database would end, when that is known without asking."""
        return self.inner.refusal(sql_key, now)

    def away(self) -> bool:
        """Return whether it would be in vain to wait for an answer."""
        return self.inner.away()

    def lose_patience(self) -> None:
        """Note that an answer did not come in time."""
        self.inner.lose_patience()

    def spared(self, now: float) -> bool:
        """Return whether nothing should be fetched ahead of need for the moment."""
        return self.inner.spared(now)

    def refused(self) -> Iterable[bytes]:
        """Return the keys that are known to fail by their own fault."""
        return self.inner.refused()

    def forget(self, sql_keys: Iterable[bytes]) -> None:
        """Ask anew for keys that failed by their own fault."""
        self.inner.forget(sql_keys)

    def forget_all(self) -> None:
        """Ask anew for every key that failed by its own fault."""
        self.inner.forget_all()

    def _place(self, sql_key: bytes) -> Place | None:
        """Return where this host stands if the key may be asked for, and its answer be shared."""
        watch = self._table.watch
        if watch is None or watch.lifetime(sql_key, absent=False) is None:
            return None
        if not self._may_ask(sql_key):
            return None
        return self._trust.place(self._table.name)

    def _may_ask(self, sql_key: bytes) -> bool:
        return (
            self._exchange.is_open
            and len(sql_key) <= KEPT_KEY
            and self._trust.may_ask(self._table.name, sql_key)
        )

    def _heard(self, asked: _Asked, reply: Reply) -> None:
        answer: SharedAnswer | None = None
        try:
            answer = self._read(asked.value, reply)
            if answer is not None:
                left = answer.at + answer.lifetime - self._wall_clock()
                shortest = SHORTEST + answer.lifetime * self._table.cache.settings.jitter
                if left >= shortest and self._trust.believes(self._table.name, answer):
                    self.counts["hit"] += 1
                    asked.done(answer.found, left)
                    return
                self.counts["disbelieved"] += 1
            elif not reply.sealed:
                self.counts["miss"] += 1
        except Exception:
            log.exception("second level: a defect of mailmapd; the database is asked")
            answer, reply = None, NOTHING
        self.inner.fetch(asked.sql_key, partial(self._fetched, asked, answer, reply))

    def _fetched(
        self,
        asked: _Asked,
        answer: SharedAnswer | None,
        reply: Reply,
        known: Known,
        left: float | None = None,
    ) -> None:
        """Share what the database said; if it could not tell, have what was shared stand in for it."""
        if isinstance(known, Failure):
            self._stand_in(answer, known, asked.done)
            return
        try:
            if reply.token:
                self._share(asked, reply, known)
            elif reply.sealed:
                self._exchange.throw_away(asked.value)  # nobody can use it
        except Exception:
            log.exception("second level: a defect of mailmapd; an answer is not shared")
        asked.done(known, left)

    def _fetched_alone(
        self, sql_key: bytes, done: Done, known: Known, left: float | None = None
    ) -> None:
        """Look for something that stands in for a database that could not tell."""
        if not isinstance(known, Failure) or not self._may_ask(sql_key):
            done(known, left)
            return
        value, _ = self._sealer.answer(self._digest, sql_key)

        def heard(reply: Reply) -> None:
            answer: SharedAnswer | None = None
            try:
                answer = self._read(value, reply)
            except Exception:
                log.exception("second level: a defect of mailmapd; nothing stands in")
            self._stand_in(answer, known, done)

        # Without a token: nobody fetches it now
        self._exchange.ask(Question(self._marks, value, value, heard))

    def _stand_in(self, answer: SharedAnswer | None, failure: Failure, done: Done) -> None:
        """Answer with the past, unless it is too old for that."""
        if answer is None:
            done(failure)
            return
        cache = self._table.cache
        fresh = cache.settings.negative_ttl if answer.found is ABSENCE else cache.settings.ttl
        left = min(answer.at + fresh - self._wall_clock(), 0.0)
        if cache.useless((answer.found, left), 0.0):
            done(failure)
            return
        self.counts["stale"] += 1
        done(answer.found, left)

    def _read(self, value: bytes, reply: Reply) -> SharedAnswer | None:
        """Return what a reply says if a host with the secret has sealed it, and nothing was flushed since."""
        if not reply.sealed:
            return None
        plain = None
        if len(reply.sealed) <= MOST_BYTES:
            plain = self._sealer.open(value, reply.sealed)
        answer = None if plain is None else decode(plain)
        if answer is None:
            self.counts["garbage"] += 1
            return None
        flushed = not all(reply.marks) or answer.marks != digest_of(reply.marks)
        if flushed or answer.at > self._wall_clock() + _SKEW:
            self.counts["disbelieved"] += 1
            return None
        return answer

    def _share(self, asked: _Asked, reply: Reply, found: Payload | Absence) -> None:
        absent = found is ABSENCE
        place = self._place(asked.sql_key)
        lifetime = None
        if self._table.watch is not None:
            lifetime = self._table.watch.lifetime(asked.sql_key, absent)
        if (
            lifetime is None
            or place is None
            or (place.servers, place.history) != (asked.place.servers, asked.place.history)
            or not all(reply.marks)
        ):
            return
        marks = digest_of(reply.marks)
        plain = SharedAnswer.of(found, asked.at, lifetime, asked.place, marks).encode()
        sealed = b"" if plain is None else self._sealer.seal(asked.value, plain)
        if sealed and len(sealed) <= MOST_BYTES:
            self._exchange.fill(
                Fill(asked.value, asked.guard, reply.token, sealed, lifetime, absent)
            )
