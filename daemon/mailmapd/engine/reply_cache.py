"""The reply cache: whole replies by the bytes of their requests, in front of the maps.

It saves decoding, search and encoding for the requests that come again and again. It never outlives its parts: a reply is good only while
every cached answer it was made of is fresh, and all replies are forgotten when anything is flushed or the configuration is read again.

What is remembered lives in two generations. A hit in the old one moves to the young one; when the young one is full it becomes the old one,
and what nobody asked for since is dropped, two replies at a time, because freeing a whole generation at once would keep everybody waiting.
That is nearly "least recently used", for the price of one dictionary access per hit.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from mailmapd.engine.meters import BUCKETS

if TYPE_CHECKING:
    from mailmapd.engine.map import Map, Part
    from mailmapd.engine.meters import LookupMeter

GENERATION = 65_536  # replies per generation
REQUEST_LIMIT = 512  # bytes of the longest request that is remembered
REPLY_LIMIT = 1024  # bytes of the longest reply that is remembered


class Use(NamedTuple):
    """What the use of a reply counts for, under the source of answers from memory: many replies share one."""

    map: Map
    meter: LookupMeter
    result: int
    parts: tuple[Part, ...]

    def count_lookup(self, seconds: float) -> None:
        """Count a lookup that took so long: as one of the map, and as a hit of every table that the reply was made of."""
        one, meter, result, parts = self
        meter.results[result] += 1
        latencies = meter.from_cache
        latencies.counts[bisect_left(BUCKETS, seconds)] += 1
        latencies.total += seconds
        one.avoided += len(parts)
        for table, absent in parts:
            if absent:
                table.negative_hits += 1
            else:
                table.hits += 1


Remembered = tuple[bytes, float, int]
"""A reply, until when it is good, and the number of its use: nothing in it that the garbage collector would have to visit."""


class ReplyCache:
    """Replies by request."""

    def __init__(self, generation: int = GENERATION) -> None:
        self._generation = generation
        self._young: dict[bytes, Remembered] = {}
        self._old: dict[bytes, Remembered] = {}
        self._dropped: list[dict[bytes, Remembered]] = []
        self._uses: list[Use] = []
        self._numbers: dict[Use, int] = {}

    def find(self, request: bytes, now: float) -> tuple[bytes, Use] | None:
        """Return the remembered reply to a request, if it is still good, with its use, which the caller counts."""
        found = self._young.get(request)
        if found is None:
            found = self._old.pop(request, None)
            if found is None:
                return None
            self._keep(request, found)
        reply, until, number = found
        return (reply, self._uses[number]) if now < until else None

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
