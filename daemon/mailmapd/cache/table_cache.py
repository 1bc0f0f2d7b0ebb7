"""The cached answers of one table, by SQL key.

An entry passes through three ages. All times are seconds of a monotonic clock that the caller passes in.

    stored ──── fresh ────┬── refresh ──┬──────── stale ────────┐
    answer at once        │ answer, and │ answer only while the │ gone
                          │ fetch anew  │ database cannot       │

`fresh` and `refresh` together last `ttl` (shortened by up to `jitter`, by the key, so that entries
stored together do not expire together); `refresh` is its last `refresh_ahead` part. Rows and
definite absences have budgets of their own: a flood of unknown recipients cannot evict a real one.
Absences have no refresh age, so that nobody's dictionary attack is kept alive by our own queries.

`distrust` shortens the ages of everything that is held, without touching any of it. Each entry
carries the number of its era in the last digits of its time, and an era that has ended has a
moment from which the ordinary time to live counts. A `doubt` is a distrust that `settle` may take
back. A later sweep, which looks at every entry anyway, writes the shorter ages into the entries
themselves, so that the number is free again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from itertools import islice, zip_longest
from typing import Final
from zlib import crc32

from mailmapd.cache.budget import Budget
from mailmapd.cache.memory import NEGATIVE, POSITIVE, Memory
from mailmapd.config.schema import CacheSection

Payload = bytes | tuple[bytes, ...]
"""A row as a table keeps it: a finished value, or the values that `result_format` still has to join with the key."""


class Absence(Enum):
    """The one value that says: the database definitely has no row."""

    ABSENCE = 0


ABSENCE: Final = Absence.ABSENCE


Entry = tuple[Payload | Absence, float]
"""An entry: a row or an absence, and until when it is fresh."""

_TIME = struct.Struct("d")
_time_of = _TIME.unpack_from
_Packed = bytes | tuple[Payload, float]


def _pack(payload: Payload, fresh_until: float) -> _Packed:
    """Return an entry as it is kept: one object with the time in front costs 80 bytes less than a tuple of two."""
    return (
        _TIME.pack(fresh_until) + payload if isinstance(payload, bytes) else (payload, fresh_until)
    )


def _unpack(packed: _Packed) -> tuple[Payload, float]:
    return (
        (packed[_TIME.size :], *_TIME.unpack_from(packed)) if isinstance(packed, bytes) else packed
    )


KEPT_KEY = 1024  # bytes of the longest key of which anything is kept; an address has 320 at most

_ERAS = 16_384
"""Eras that are told apart; after more distrusts between two sweeps, what is stored next is distrusted, too."""

_TICKS = 256.0  # a second: what an entry's time is rounded down to
_TICK = 2 / _TICKS  # seconds by which it may be off
_ERA_STEP = 1.0 / (_TICKS * _ERAS)


def _era_of(until: float) -> int:
    return round(until * _TICKS % 1.0 * _ERAS)


class TableCache:
    """Answers by SQL key, with the ages and budgets of `settings`."""

    def __init__(
        self,
        settings: CacheSection,
        memory: Memory | None = None,
    ) -> None:
        self.settings = settings
        self._shares = (memory or Memory()).shares
        self.rows = Budget(settings.max_entries, self._shares[POSITIVE])
        self.absences = Budget(settings.max_negative_entries, self._shares[NEGATIVE])
        # The time that absences, and rows, were given instead of the ordinary one
        self._longer = {True: 0.0, False: 0.0}
        self._refresh_window = settings.ttl * settings.refresh_ahead
        self._fresh_for = settings.ttl - self._refresh_window
        self._era = 0
        self._mark = 0.0  # what marks an entry's time with the era
        # Eras that were distrusted, in the order of that: the moment from which `ttl` counts
        self._ended: dict[int, float] = {}
        # What `_ended` would be without doubts, while there are any
        self._undoubted: dict[int, float] | None = None
        self._believed_again: set[int] = set()  # eras that are as good as the present one
        self._loaded: float | None = None  # what marks the time of an entry that is loaded in doubt

    def held(self, key: bytes, now: float) -> tuple[bytes, float] | None:
        """Return the finished value of a row and until when it is fresh, if it is: what `peek` would say, sooner.

        None says nothing.
        """
        entries = self.rows.entries
        packed = entries.get(key)
        # Most rows are one finished value; comparing classes takes half the time of `isinstance`
        if packed.__class__ is not bytes:
            return None
        entries.move_to_end(key)
        (until,) = _time_of(packed)
        if self._ended and _era_of(until) in self._ended:
            return None
        return (packed[8:], until) if now < until else None

    def get(self, key: bytes, now: float) -> Entry | None:
        """Return (what is known, until when it is fresh), or None when nothing usable without the database is known.

        When the second has passed, the entry is in its refresh age: it is the answer, and should be fetched anew.
        """
        entries = self.rows.entries
        packed = entries.get(key)
        if packed is None:
            entries = self.absences.entries
            expires = entries.get(key)
            if expires is None:
                return None
            entries.move_to_end(key)
            if now >= expires:
                return None
            return (ABSENCE, expires) if not self._ended else self._believed(ABSENCE, expires, now)
        entries.move_to_end(key)
        entry = _unpack(packed)
        if now >= entry[1] + self._refresh_window:
            return None
        return entry if not self._ended else self._believed(*entry, now)

    def distrust(self, before: float) -> None:
        """Believe everything that was stored until now only as if it had been stored at `before`, at no cost by size.

        Younger entries answer and are in their refresh age; older ones are stale.
        """
        if self._undoubted is not None:
            without = {
                era: min(self._undoubted.get(era, moment), before)
                for era, moment in self._ended.items()
            }
            without |= dict.fromkeys(self._believed_again, before)
            without.setdefault(self._era, before)
            self._undoubted = without
            self._loaded = None
        self._end_era(before)

    def doubt(self, before: float) -> None:
        """Distrust until `settle`, from whose `believed` on everything is as if there had been no doubt."""
        if self._undoubted is None:
            self._undoubted = dict(self._ended)
        self._end_era(before)

    def settle(self, *, believed: bool) -> None:
        """End all doubts: take them back, or take them for good."""
        without, self._undoubted, self._loaded = self._undoubted, None, None
        if believed and without is not None:
            self._believed_again |= self._ended.keys() - without.keys() - {self._era}
            self._ended = dict(sorted(without.items(), key=lambda item: item[1]))
            self._begin_era()

    def _end_era(self, before: float) -> None:
        # What was distrusted already may have been proven for longer than that
        for era in reversed(self._ended):
            if self._ended[era] <= before:
                break
            self._ended[era] = before
        for era in (*self._believed_again, self._era):
            self._ended.setdefault(era, before)
        self._believed_again.clear()
        self._begin_era()

    def _begin_era(self) -> None:
        """Mark what is stored from now on with a number that no entry has; without one, it is distrusted, too."""
        if len(self._ended) + len(self._believed_again) >= _ERAS:
            return
        while self._era in self._ended or self._era in self._believed_again:
            self._era = (self._era + 1) % _ERAS
        self._mark = self._era * _ERA_STEP

    def _believed(self, found: Payload | Absence, until: float, now: float) -> Entry | None:
        """Return a usable entry with its age after what was distrusted, or None."""
        ended = self._ended.get(_era_of(until))
        if ended is None:
            return found, until
        ttl = self.settings.negative_ttl if found is ABSENCE else self.settings.ttl
        return (found, min(until, now)) if now < ended + ttl else None

    def stale(self, key: bytes, now: float) -> Payload | Absence | None:
        """Return what was known until not longer than the stale time ago, or None.

        Entries older than that are dropped here.
        """
        if key not in self.rows.entries and key not in self.absences.entries:
            return None  # as nearly always: nothing is asked for that is known
        entry = self.peek(key)
        if entry is None:
            return None
        if self.useless(entry, now):
            self.drop(key)
            return None
        return entry[0]

    def store(
        self, key: bytes, found: Payload | Absence, now: float, lifetime: float | None = None
    ) -> None:
        """Keep what the database just said, in place of whatever was known; for `lifetime` seconds instead of `ttl`.

        Nothing is kept of a key that is longer than any address: nobody asks for it again but to do harm.
        """
        if len(key) > KEPT_KEY:
            return
        spread = self._spread(key)
        if lifetime is not None:
            self._longer[found is ABSENCE] = lifetime
        if found is ABSENCE:
            if key in self.rows.entries:
                self.rows.drop(key)
            self.absences[key] = self._stamped(
                now + (lifetime or self.settings.negative_ttl) * spread, self._mark
            )
        else:
            if key in self.absences.entries:
                self.absences.drop(key)
            self.rows[key] = _pack(
                found, self._stamped(now + (lifetime or self._fresh_for) * spread, self._mark)
            )

    def _spread(self, key: bytes) -> float:
        """Return the part of its time for which a key is kept: always the same, so that `stored_at` can be told."""
        return 1.0 - self.settings.jitter * (crc32(key) / 2**32)

    def stored_at(self, key: bytes, now: float, longer_since: float) -> float | None:
        """Return when an entry was stored, by how long it is kept, if that can be told.

        Entries are given more than the ordinary time since the moment `longer_since`.
        """
        packed = self.rows.peek(key)
        ordinary: float = self.settings.negative_ttl if packed is None else self._fresh_for
        until = self.absences.peek(key) if packed is None else _unpack(packed)[1]
        if until is None:
            return None
        spread = self._spread(key)
        stored: float = until - ordinary * spread
        if stored > now + _TICK or stored >= longer_since:
            stored = until - self._longer[packed is None] * spread
        return stored if stored <= now + _TICK else None

    def _stamped(self, until: float, mark: float) -> float:
        """Return the last time, not after `until`, with an era in its last digits."""
        return int((until - mark) * _TICKS) / _TICKS + mark

    def peek(self, key: bytes) -> Entry | None:
        """Return what is held of a key, however old, and until when it is fresh, without counting a use."""
        packed = self.rows.peek(key)
        if packed is not None:
            found, until = _unpack(packed)
            return found, self._fresh_until(until, self._fresh_for)
        expires = self.absences.peek(key)
        if expires is None:
            return None
        return ABSENCE, self._fresh_until(expires, self.settings.negative_ttl)

    def is_distrusted(self, key: bytes) -> bool:
        """Return whether a key's entry is distrusted: it is never fresh, and fetched anew when it is used."""
        packed = self.rows.peek(key)
        until = self.absences.peek(key) if packed is None else _unpack(packed)[1]
        return until is not None and _era_of(until) in self._ended

    def last_used(self, *, absent: bool) -> bytes | None:
        """Return the key of the row, or of the absence, that was used or stored last."""
        return next(reversed((self.absences if absent else self.rows).entries), None)

    def hottest(self, count: int) -> list[bytes]:
        """Return the keys that were used or stored last, at most `count`: rows and absences in turn, the last first."""
        rows, absences = reversed(self.rows.entries), reversed(self.absences.entries)
        found = []
        for pair in islice(zip_longest(rows, absences), count):
            found += [key for key in pair if key is not None]
        return found[:count]

    @property
    def ordinary(self) -> float:
        """Return for how many seconds an answer is kept at most when nobody hears of changes."""
        return max(self.settings.ttl, self.settings.negative_ttl)

    def proven(self, entry: Entry, now: float) -> Entry:
        """Return an entry as it may be believed elsewhere, where changes after `now` are not heard of."""
        found, until = entry
        lifetime = self.settings.negative_ttl if found is ABSENCE else self._fresh_for
        return found, min(until, now + lifetime)

    def _fresh_until(self, until: float, lifetime: float) -> float:
        ended = self._ended.get(_era_of(until))
        return until if ended is None else min(until, ended + lifetime)

    def load_in_doubt(self, before: float) -> None:
        """Have what is restored from now on be in doubt: believed as if stored at `before`, until `settle`."""
        taken = {*self._ended, *self._believed_again, self._era}
        if len(taken) == _ERAS:
            return
        if self._undoubted is None:
            self._undoubted = dict(self._ended)
        era = next(era for era in range(_ERAS) if era not in taken)
        self._ended = {era: before, **self._ended}
        self._loaded = era * _ERA_STEP

    @property
    def loads_in_doubt(self) -> bool:
        """Return whether what is restored is in doubt."""
        return self._loaded is not None

    def restore(self, key: bytes, entry: Entry, now: float) -> bool:
        """Keep what another cache of this table held, unless more is known, it is useless, or there is no room.

        No entry is fresh for longer than if it had been stored now, unless it is loaded in doubt. Return whether it was
        kept.
        """
        found, until = entry
        absent = found is ABSENCE
        budget, lifetime = (
            (self.absences, self.settings.negative_ttl) if absent else (self.rows, self._fresh_for)
        )
        if (
            key in self.rows
            or key in self.absences
            or budget.full
            or len(key) > KEPT_KEY
            or self.useless(entry, now)
        ):
            return False
        if self._loaded is None:
            until = self._stamped(min(until, now + lifetime), self._mark)
        else:
            until = self._stamped(until, self._loaded)
        budget[key] = until if found is ABSENCE else _pack(found, until)
        return True

    def useless(self, entry: Entry, now: float) -> bool:
        """Return whether not even an unreachable database makes the entry an answer."""
        if entry[0] is ABSENCE:
            return now >= entry[1] + self.settings.negative_stale_ttl
        return now >= entry[1] + self._refresh_window + self.settings.stale_ttl

    def sweep(self, clock: Callable[[], float], size: int) -> Iterator[int]:
        """Look at every entry, `size` at a time, and drop those of no use; yield how many they were each time.

        Entries that are stale because they were distrusted get the time that says so, those that are believed again the
        era of now, and their eras are free when all have been looked at: what is stored meanwhile has another.
        """
        ended, undoubted, believed = self._ended, self._undoubted, self._believed_again
        # Nothing of these is fresh any more: a time says of their entries what the era says
        over_since = clock() - self.ordinary
        definite = ended if undoubted is None else undoubted
        over = {
            era for era, before in definite.items() if before <= over_since and era != self._era
        } | believed
        keys = self.keys()
        for start in range(0, len(keys), size):
            now = clock()
            yield self._sweep_some(keys[start : start + size], over, now)
        for era in over:
            ended.pop(era, None)
            believed.discard(era)
            if undoubted is not None:
                undoubted.pop(era, None)
        self._begin_era()

    def _sweep_some(self, keys: Iterable[bytes], over: set[int], now: float) -> int:
        """Return how many of the keys were dropped; write into entries of eras that are over what those say."""
        dropped = 0
        for key in keys:
            packed = self.rows.peek(key)
            found: Payload | Absence = ABSENCE
            stored: float | None
            lifetime: float
            if packed is None:
                stored, lifetime = self.absences.peek(key), self.settings.negative_ttl
            else:
                (found, stored), lifetime = _unpack(packed), self._fresh_for
            if stored is None:
                continue
            until = self._fresh_until(stored, lifetime) if self._ended else stored
            if self.useless((found, until), now):
                dropped += self.drop(key)
            elif over and _era_of(stored) in over:
                until = self._stamped(until, self._mark)
                if found is ABSENCE:
                    self.absences.renew(key, until)
                else:
                    self.rows.renew(key, _pack(found, until))
        return dropped

    def drop(self, key: bytes) -> bool:
        """Forget one key; return whether anything was known."""
        return self.rows.drop(key) or self.absences.drop(key)

    def clear(self) -> list[Budget]:
        """Forget everything at once.

        Return the old budgets, because freeing a million entries takes a while and is best done in
        slices.
        """
        old = [self.rows, self.absences]
        self._era, self._mark, self._ended = 0, 0.0, {}
        self._undoubted = self._loaded = None
        self._believed_again = set()
        self.rows = Budget(self.settings.max_entries, self._shares[POSITIVE])
        self.absences = Budget(self.settings.max_negative_entries, self._shares[NEGATIVE])
        for before, after in zip(old, (self.rows, self.absences), strict=True):
            after.evictions = before.evictions
            before.leave()
        return old

    def keys(self) -> list[bytes]:
        """Return every key held at this moment, of either kind, in no particular order."""
        keys = self.rows.keys_now()
        keys += self.absences.keys_now()
        return keys
