"""Answers with what they were made of, so that whoever remembers them knows until when, and what touches them."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple, Protocol

from mailmapd.engine.meters import BUCKETS, LookupMeter
from mailmapd.model import Answer

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


class Use(NamedTuple):
    """What the use of an answer counts for, under the source of answers from memory: many answers share one."""

    asked: CountsAvoided
    meter: LookupMeter
    result: int
    parts: tuple[Part, ...]

    def count_lookup(self, seconds: float) -> None:
        """Count a lookup that took so long: as one of the map or dict, and as a hit of every table that took part."""
        asked, meter, result, parts = self
        meter.results[result] += 1
        latencies = meter.from_cache
        latencies.counts[bisect_left(BUCKETS, seconds)] += 1
        latencies.total += seconds
        asked.avoided += len(parts)
        for table, absent in parts:
            if absent:
                table.negative_hits += 1
            else:
                table.hits += 1


class Answered(NamedTuple):
    """An answer that has been counted.

    It may be given again until `until`, unless one of the entries that it was made of is touched before: `keys` are
    their SQL keys, one for each of the parts of `use`. Who gives it again counts that with `use`.
    """

    answer: Answer
    until: float = NEVER
    use: Use | None = None
    keys: tuple[bytes, ...] = ()
