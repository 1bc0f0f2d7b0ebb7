"""Meters: how many lookups ended how, and how long they took.

Plain lists of integers, one set per listener and map, so that counting costs next to nothing;
whoever wants to show them reads them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from mailmapd.engine.outcome import Source
from mailmapd.model import Answer, Found, NotFound, PermFail, TempFail

RESULTS = ("found", "notfound", "tempfail", "permfail")
FOUND = 0
_RESULT_INDEX: dict[type, int] = {Found: FOUND, NotFound: 1, TempFail: 2, PermFail: 3}

BUCKETS = (
    0.000005, 0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Upper bounds of the latency histogram, in seconds: from a lookup in memory to the longest deadline."""


class Histogram:
    """Latencies in `BUCKETS`, the last count being for all that is longer; `total` is their sum in seconds."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one latency."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


class ClientMeter:
    """The clients that came to the listeners of one name: protocol errors by reason, and how many were turned away."""

    def __init__(self) -> None:
        self.violations: Counter[str] = Counter()
        self.refused = 0


class LookupMeter:
    """The lookups of one map (or dict) through one listener."""

    def __init__(self, listener: str, name: str) -> None:
        self.listener = listener
        self.name = name
        self.results = [0, 0, 0, 0]
        self.latencies = {source: Histogram() for source in Source}
        self.from_cache = self.latencies[Source.CACHE]

    def count(self, answer: Answer, source: Source, seconds: float) -> int:
        """Count one lookup that took `seconds` from its decoding to its answer; return the index of its result."""
        result = _RESULT_INDEX[type(answer)]
        self.results[result] += 1
        self.latencies[source].observe(seconds)
        return result
