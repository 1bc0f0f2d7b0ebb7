"""The reply cache: whole replies by the bytes of their requests, in front of the maps.

It saves decoding, search and encoding for the requests that come again and again. It never outlives its parts: a reply is good only while
every cached answer it was made of is fresh, and all replies are forgotten when anything is flushed or the configuration is read again.

What is remembered lives in two generations. A hit in the old one moves to the young one; when the young one is full it becomes the old one,
and what nobody asked for since is gone. That is nearly "least recently used", for the price of one dictionary access per hit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mailmapd.engine.map import Map, Part
    from mailmapd.engine.meters import LookupMeter

GENERATION = 16_384  # replies per generation
REQUEST_LIMIT = 512  # bytes of the longest request that is remembered
REPLY_LIMIT = 1024  # bytes of the longest reply that is remembered


class Remembered(NamedTuple):
    """A reply, until when it is good, and what its use counts for."""

    reply: bytes
    until: float
    meter: LookupMeter
    result: int
    map: Map
    parts: tuple[Part, ...]


class ReplyCache:
    """Replies by request."""

    def __init__(self) -> None:
        self._young: dict[bytes, Remembered] = {}
        self._old: dict[bytes, Remembered] = {}

    def find(self, request: bytes, now: float) -> Remembered | None:
        """Return what is remembered of a request, if it is still good, and count its parts as used."""
        found = self._young.get(request)
        if found is None:
            found = self._old.pop(request, None)
            if found is None:
                return None
            self._keep(request, found)
        if now >= found.until:
            return None
        found.meter.results[found.result] += 1
        found.map.avoided += len(found.parts)
        for table, absent in found.parts:
            if absent:
                table.negative_hits += 1
            else:
                table.hits += 1
        return found

    def remember(self, request: bytes, found: Remembered) -> None:
        """Keep a reply, unless it or its request is unusually long."""
        if len(request) <= REQUEST_LIMIT and len(found.reply) <= REPLY_LIMIT:
            self._keep(request, found)

    def forget(self) -> None:
        """Forget every reply."""
        self._young = {}
        self._old = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def _keep(self, request: bytes, found: Remembered) -> None:
        if len(self._young) >= GENERATION:
            self._old = self._young
            self._young = {}
        self._young[request] = found
