"""The question after a mismatch: whether a password in memory is still the one in the database.

Dovecot puts it when the password of a login does not fit the first answer (``passdb-fresh/…``), as its own SQL driver
asks again when its auth cache does not fit. Most mismatches are slips and guesses; like that cache, we let one go to
the database only when something speaks for a change:

    a login fits, or nothing is known of one    the next mismatch goes there
    a mismatch                                  the next ones do not, for `WINDOW` seconds

and not more than `AT_ONCE` at once and `RATE` a second in all. None goes there when the first answer of the very login
came from there, or when the user is not known. The others are answered from memory, as all are while the database is
away. Equal ones share a query, unless a change was heard of since it was sent. A row that has changed takes the place
of the one in memory, so that the old password is refused from then on, and everybody who remembers it hears of it.

Of a login that fits we see its first question and no second one. So the first questions about a key are noted after
a mismatch, in `doubted`, and until one has fitted, no reply to them is remembered before the engine. The next first
question shows that the one before has fitted, if logins come one after the other. Those of a guesser come side by side,
and each would show it of another: so that is believed a few times within `WINDOW`, and then only of a first question
that no mismatch has followed for `SETTLED` seconds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from cachetools import TTLCache

from mailmapd.cache.table_cache import ABSENCE, KEPT_KEY, Absence, Payload
from mailmapd.engine.dicts.fields import renamed
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.outcome import Failure, Outcome, Source
from mailmapd.engine.table import Table
from mailmapd.single_flight import Flight, SingleFlight

WINDOW = 30.0  # seconds
AT_ONCE, RATE = 100, 20.0
KEYS = 10_000  # that are doubted at the same time
PATIENCE = 2.0  # seconds until memory answers in place of a database that should
SETTLED = (
    2.0  # seconds within which Dovecot has compared a password, and asks again if it does not fit
)
BELIEVED = (
    3  # logins that fitted, as another one so soon behind them says, for one key within WINDOW
)
_SIDE_BY_SIDE = 100  # first questions about a key that are noted; of more, the last ones

RESULTS = ("changed", "same", "limited", "failed")
"""Ends of questions: of the database, which has another row, or the same; in memory, because it was asked of the key
a moment ago, or too often in all; in memory, because the database could not answer.
"""

_ASKED_OFTEN = Failure("the database is asked about too many passwords that did not match")


def _no_replies(invalidation: Invalidation) -> None:
    """Recall nothing: nobody remembers replies."""


class Allowance:
    """A number of them at once, and then a number a second."""

    def __init__(self, at_once: float, per_second: float, now: float) -> None:
        self._at_once = self._left = at_once
        self._per_second = per_second
        self._counted = now

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        earned = (now - self._counted) * self._per_second
        self._left = min(self._at_once, self._left + earned)
        self._counted = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class _Question(NamedTuple):
    """A question on its way to the database: the keys it may mean, the one that is asked, and what memory holds."""

    sql_keys: frozenset[bytes]
    sql_key: bytes
    held: Payload | Absence | None
    flight: Flight[Outcome]


class Mismatches:
    """The questions after a mismatch about one table of passwords, counted by how they end.

    `forget` carries out an invalidation, and `recall` makes sure that a reply which was made of a key comes to us
    again.
    """

    def __init__(self, table: Table, clock: Callable[[], float]) -> None:
        self.table = table
        self.counts = dict.fromkeys(RESULTS, 0)
        # When first questions were put that no mismatch has followed so far
        self.doubted: dict[bytes, deque[float]] = {}
        self.forget: Callable[[Invalidation], object] = table.apply
        self.recall: Callable[[Invalidation], object] = _no_replies
        self._clock = clock
        self._used = self._probing = False
        self._lately: TTLCache[bytes, None] = TTLCache(KEYS, WINDOW, timer=clock)
        self._believed: TTLCache[bytes, int] = TTLCache(KEYS, WINDOW, timer=clock)
        self._allowance = Allowance(AT_ONCE, RATE, clock())
        self._flights: SingleFlight[Outcome] = SingleFlight()
        # The flights of the table that these wait for
        self._sent: dict[bytes, Flight[Outcome]] = {}

    def note_first(self, sql_key: bytes) -> bool:
        """Note that memory answered the first question about a doubted key; return whether it is doubted still."""
        unanswered = self.doubted[sql_key]
        now = self._clock()
        if unanswered and self._has_fitted(sql_key, now - unanswered[0]):
            del self.doubted[sql_key]
            return False
        unanswered.append(now)
        return True

    def _has_fitted(self, sql_key: bytes, age: float) -> bool:
        """Return whether a login has fitted, because no mismatch has followed since its first question."""
        if age >= SETTLED:
            return True
        believed = self._believed.get(sql_key, 0)
        if believed == BELIEVED:
            return False
        self._believed[sql_key] = believed + 1
        return True

    def note_fetched(self, sql_key: bytes) -> None:
        """Note that the database answered a first question."""
        if self._used:
            self._doubt(sql_key, [self._clock()])
            self._note_asked(sql_key)

    def ask(
        self,
        user: bytes,
        sql_key: bytes,
        original: Sequence[tuple[bytes, bytes]],
        done: Callable[[Outcome], None],
    ) -> Outcome | None:
        """Return what can be said now of a user, or None: `done` gets it later.

        Dovecot has perhaps renamed the user by the first answer. `original` are the names, with their SQL keys, that
        the first question may have had then: it is meant if its row in memory makes `user` of the name.
        """
        self._used = True
        now = self._clock()
        sql_keys = frozenset((sql_key, *(key for _, key in original)))
        sql_key, held = self._in_memory(user, sql_key, original, now)
        fitted = sql_key not in self.doubted
        if not fitted and self.doubted[sql_key]:
            self.doubted[sql_key].popleft()
        flight = self._flights.find(sql_key)
        if flight is not None and self.table.awaits(sql_key, self._sent[sql_key]):
            flight.join(done)
            return None
        if fitted:
            self.recall(Invalidation(self.table.name, frozenset((sql_key,))))
            self._doubt(sql_key)
        likely = fitted or sql_key not in self._lately or held is None
        if not likely or held is ABSENCE or not self._allowance.take(now):
            return self._from_memory("limited", held, Source.CACHE)
        if held is not None and self.table.origin.refusal(sql_key, now) is not None:
            return self._from_memory("failed", held, Source.STALE)
        if held is not None and self.table.origin.away():
            self._lately.pop(sql_key, None)
            self._probe(_Question(sql_keys, sql_key, held, Flight()), now)
            return self._from_memory("failed", held, Source.STALE)
        self._note_asked(sql_key)
        flight = self._flights.start(sql_key)
        flight.join(done)
        question = _Question(sql_keys, sql_key, held, flight)
        patience = asyncio.get_running_loop().call_later(PATIENCE, self._lose_patience, question)
        self._sent[sql_key] = self.table.renew(sql_key, partial(self._land, question, patience))
        return None

    def _probe(self, question: _Question, now: float) -> None:
        """Ask a database that is away, while nobody waits: it may be back."""
        if not self._probing and not self.table.origin.spared(now):
            self._probing = True
            self.table.renew(question.sql_key, partial(self._land, question, None))

    def _lose_patience(self, question: _Question) -> None:
        """Answer from memory; what the database says later is kept all the same."""
        _, sql_key, held, flight = question
        if held is not None:
            self._lately.pop(sql_key, None)
            self._end(sql_key, flight)
            self.table.origin.lose_patience()
            flight.land(Outcome(held, Source.STALE))

    def _end(self, sql_key: bytes, flight: Flight[Outcome]) -> None:
        """Let nobody join a question any more."""
        if self._flights.end(sql_key, flight):
            del self._sent[sql_key]

    def _in_memory(
        self, user: bytes, sql_key: bytes, original: Sequence[tuple[bytes, bytes]], now: float
    ) -> tuple[bytes, Payload | Absence | None]:
        for name, key in original:
            held = self.table.cache.stale(key, now)
            if isinstance(held, bytes) and renamed(name, held).lower() == user.lower():
                return key, held
        return sql_key, self.table.cache.stale(sql_key, now)

    def _note_asked(self, sql_key: bytes) -> None:
        if len(sql_key) <= KEPT_KEY:
            self._lately[sql_key] = None

    def _doubt(self, sql_key: bytes, unanswered: Sequence[float] = ()) -> None:
        if len(sql_key) > KEPT_KEY:
            return  # memory has no answer that could be doubted
        if len(self.doubted) >= KEYS and sql_key not in self.doubted:
            del self.doubted[next(iter(self.doubted))]
        self.doubted[sql_key] = deque(unanswered, _SIDE_BY_SIDE)

    def _from_memory(self, result: str, held: Payload | Absence | None, source: Source) -> Outcome:
        self.counts[result] += 1
        return Outcome(_ASKED_OFTEN if held is None else held, source)

    def _land(
        self, question: _Question, patience: asyncio.TimerHandle | None, outcome: Outcome
    ) -> None:
        """Have everybody forget what is not so any more, and tell those who asked; nobody when a probe lands."""
        sql_keys, sql_key, held, flight = question
        if patience is None:
            self._probing = False
        else:
            patience.cancel()
        self._end(sql_key, flight)
        known = outcome.known
        if isinstance(known, Failure):
            self._lately.pop(sql_key, None)
            self.counts["failed"] += patience is not None
            if held is not None:
                outcome = Outcome(held, Source.STALE)
        elif held is None or held == known:
            self.counts["same"] += 1
        else:
            self.counts["changed"] += 1
            kept = self.table.cache.peek(sql_key)
            self.forget(Invalidation(self.table.name, sql_keys))
            if kept is not None and kept[0] == known:  # else it was touched on its way
                self.table.keep(sql_key, known)
            self._doubt(sql_key, [self._clock()])  # the login probably fits now
        flight.land(outcome)
