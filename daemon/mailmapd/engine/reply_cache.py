"""The reply cache: whole replies by the bytes of their requests, in front of the maps and dicts.

It saves decoding, search and encoding for the requests that come again and again. It never outlives
its parts: a reply is good only while every cached answer it was made of is fresh, and all replies
are forgotten when anything is flushed or the configuration is read again.

What is remembered lives in two generations. A hit in the old one moves to the young one; when the
young one is full it becomes the old one, and what nobody asked for since is dropped, two replies at
a time, because freeing a whole generation at once would keep everybody waiting. That is nearly
"least recently used", for the price of one dictionary access per hit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from mailmapd.engine.meters import BUCKETS

if TYPE_CHECKING:
    from mailmapd.engine.dicts.dict import Dict
    from mailmapd.engine.maps.map import Map
    from mailmapd.engine.meters import LookupMeter
    from mailmapd.engine.table import Table

GENERATION = 131_072  # replies per generation: 43 MB, when so many requests come again and again
REQUEST_LIMIT = 512  # bytes of the longest request that is remembered
REPLY_LIMIT = 1024  # bytes of the longest reply that is remembered


class Part(NamedTuple):
    """A cached entry that an answer was made of: its table, and whether it said "no row"."""

    table: Table
    absent: bool


class Use(NamedTuple):
    """What the use of a reply counts for, under the source of answers from memory: many replies share one."""

    asked: Map | Dict
    meter: LookupMeter
    result: int
    parts: tuple[Part, ...]

    def count_lookup(self, seconds: float) -> None:
        """Count a lookup that took so long.

        As one of the map or dict, and as a hit of every table that the reply was made of.
        """
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


Remembered = tuple[bytes, float, int]
"""A reply, until when it is good, and the number of its use.

Nothing in it that the garbage collector would have to visit.
"""

Recall = Callable[[bytes, float], Remembered | None]
CountRecalled = Callable[[bytes, Remembered, float], None]
"""`ReplyCache.find` and `ReplyCache.count`."""


class ReplyCache:
    """Replies by request."""

    def __init__(self, generation: int = GENERATION) -> None:
        self._generation = generation
        self._young: dict[bytes, Remembered] = {}
        self._old: dict[bytes, Remembered] = {}
        self._dropped: list[dict[bytes, Remembered]] = []
        self._uses: list[Use] = []
        self._numbers: dict[Use, int] = {}

    def find(self, request: bytes, now: float) -> Remembered | None:
        """Return what is remembered for a request, if it is still good.

        Who uses it says so to `count`, when the reply is on its way.
        """
        found = self._young.get(request) or self._old.get(request)
        return found if found is not None and now < found[1] else None

    def count(self, request: bytes, found: Remembered, seconds: float) -> None:
        """Count a lookup that `find` answered in so many seconds.

        Its reply stays longer than those that nobody asks for.
        """
        if request not in self._young and self._old.pop(request, None) is not None:
            self._keep(request, found)
        self._uses[found[2]].count_lookup(seconds)

    def remember(self, request: bytes, reply: bytes, until: float, use: Use) -> None:
        """Keep a reply, unless it or its request is unusually long."""
        if len(request) > REQUEST_LIMIT or len(reply) > REPLY_LIMIT:
            return
        number = self._numbers.get(use)
        if number is None:
            number = self._numbers[use] = len(self._uses)
            self._uses.append(use)
        self._keep(request, (reply, until, number))

    def forget(self) -> None:
        """Forget every reply."""
        self._dropped += [one for one in (self._young, self._old) if one]
        self._young = {}
        self._old = {}
        self._uses = []
        self._numbers = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def _keep(self, request: bytes, found: Remembered) -> None:
        if len(self._young) >= self._generation:
            self._dropped.append(self._old)
            self._old = self._young
            self._young = {}
        self._young[request] = found
        if self._dropped:
            self._free_some()

    def _free_some(self) -> None:
        """Free two dropped replies: a generation is gone before the next one is dropped."""
        last = self._dropped[-1]
        for _ in range(min(2, len(last))):
            last.popitem()
        if not last:
            self._dropped.pop()
