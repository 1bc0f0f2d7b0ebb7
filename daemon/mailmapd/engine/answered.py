"""Answers with what they were made of, so that whoever remembers them knows until when, and what touches them."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple, Protocol

from mailmapd.engine.meters import BUCKETS, LookupMeter
from mailmapd.model import Answer

QUICK = BUCKETS[0]
"""Seconds of a lookup that falls into the first bucket."""

NEVER = float("-inf")
"""Until when an answer is good that must not be given again."""


class CountsHits(Protocol):
    """A table, as far as counting is concerned."""

    name: str
    hits: int
    negative_hits: int


class CountsAvoided(Protocol):
    """A map or dict, as far as counting is concerned."""

    avoided: int


class Part(NamedTuple):
    """A kind of entry that an answer was made of: its table, and whether it said "no row"."""

    table: CountsHits
    absent: bool


class Use:
    """The counters that the use of an answer adds to, under the source of answers from memory: many answers share them.

    Lookups that took no longer than QUICK, which is nearly all of them, are added up in `lookups` and `seconds`, and
    counted together by `settle`, which whoever reads counters calls before.
    """

    __slots__ = ("asked", "lookups", "meter", "parts", "result", "seconds")

    def __init__(
        self, asked: CountsAvoided, meter: LookupMeter, result: int, parts: tuple[Part, ...]
    ) -> None:
        self.asked = asked
        self.meter = meter
        self.result = result
        self.parts = parts
        self.lookups = 0
        self.seconds = 0.0

    def count(self, seconds: float) -> None:
        """Count a lookup that took so long."""
        if seconds <= QUICK:
            self.lookups += 1
            self.seconds += seconds
        else:
            self._add(1, seconds, bisect_left(BUCKETS, seconds))

    def settle(self) -> None:
        """Count what has been added up."""
        if self.lookups:
            self._add(self.lookups, self.seconds, 0)
            self.lookups = 0
            self.seconds = 0.0

    def _add(self, lookups: int, seconds: float, bucket: int) -> None:
        """Count lookups as those of the map or dict, and as hits of every table that took part."""
        meter = self.meter
        meter.results[self.result] += lookups
        meter.from_cache.counts[bucket] += lookups
        meter.from_cache.total += seconds
        self.asked.avoided += lookups * len(self.parts)
        for table, absent in self.parts:
            if absent:
                table.negative_hits += lookups
            else:
                table.hits += lookups


class Uses:
    """The uses of one map or dict through one listener: one for each result and what it was made of."""

    def __init__(self, asked: CountsAvoided, meter: LookupMeter) -> None:
        self._asked = asked
        self._meter = meter
        self._uses: dict[tuple[int, tuple[Part, ...]], Use] = {}

    def of(self, result: int, parts: tuple[Part, ...]) -> Use:
        """Return what such an answer counts for: always the same for the same answers."""
        use = self._uses.get((result, parts))
        if use is None:
            use = Use(self._asked, self._meter, result, parts)
            self._uses[result, parts] = use
        return use

    def settle(self) -> None:
        """Count what has been added up."""
        for use in self._uses.values():
            use.settle()


class Answered(NamedTuple):
    """An answer that has been counted.

    It may be given again until `until`, unless one of the entries that it was made of is touched before: `keys` are
    their SQL keys, one for each of the parts of `use`. Who gives it again counts that with `use`.
    """

    answer: Answer
    until: float = NEVER
    use: Use | None = None
    keys: tuple[bytes, ...] = ()
