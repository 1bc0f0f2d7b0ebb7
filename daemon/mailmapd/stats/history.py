"""History: the last hour, minute by minute, for hosts that have no Prometheus.

The daemon's counters are remembered once a minute; a minute's figures are what they grew by.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from mailmapd.stats.activity import quantile
from mailmapd.stats.snapshot import Lookups, Snapshot

MINUTE = 60.0  # seconds between two marks
MINUTES = 60  # of them are kept


@dataclass(frozen=True)
class Minute:
    """One minute of the history, until `when` (seconds since the epoch).

    `rate` and `avoided_rate` are lookups and spared SELECTs a second; `from_memory` is the part
    answered from memory and `p99` a latency in seconds, both None when nothing was asked.
    """

    when: float
    rate: float
    from_memory: float | None
    p99: float | None
    avoided_rate: float


@dataclass(frozen=True)
class _Mark:
    """The counters of one moment, over all maps and dicts; `counts` are lookups by latency."""

    time: float
    counts: list[int]
    cached: int
    avoided: int


class History:
    """The marks of the last hour. `add` is called now and then, at least once a minute."""

    def __init__(self) -> None:
        self._marks: deque[_Mark] = deque(maxlen=MINUTES + 1)

    def add(self, snapshot: Snapshot) -> None:
        """Remember the snapshot when a minute has passed since the last one that was kept.

        When this machine's clock was put back, the hour begins anew.
        """
        if self._marks and snapshot["time"] < self._marks[-1].time:
            self._marks.clear()
        if not self._marks or snapshot["time"] - self._marks[-1].time >= MINUTE:
            self._marks.append(_mark(snapshot))

    def minutes(self, buckets: list[float]) -> list[Minute]:
        """Return the whole minutes that are known, the oldest first."""
        return [_minute(before, after, buckets) for before, after in pairwise(self._marks)]


def _mark(snapshot: Snapshot) -> _Mark:
    lookups = [*snapshot["maps"].values(), *snapshot["dicts"].values()]
    counts = [0] * (len(snapshot["buckets"]) + 1)
    for lookup in lookups:
        for latencies in lookup["latencies"].values():
            for place, count in enumerate(latencies["counts"]):
                counts[place] += count
    return _Mark(
        snapshot["time"], counts, _cached(lookups), sum(lookup["avoided"] for lookup in lookups)
    )


def _cached(lookups: Iterable[Lookups]) -> int:
    return sum(sum(lookup["latencies"]["cache"]["counts"]) for lookup in lookups)


def _minute(before: _Mark, after: _Mark, buckets: list[float]) -> Minute:
    """Return what happened between two marks; counters shrink when a reload takes a map away."""
    seconds = after.time - before.time
    counts = [max(a - b, 0) for a, b in zip(after.counts, before.counts, strict=True)]
    total = sum(counts)
    cached = min(max(after.cached - before.cached, 0), total)
    return Minute(
        when=after.time,
        rate=total / seconds,
        from_memory=cached / total if total else None,
        p99=quantile(counts, buckets, 0.99),
        avoided_rate=max(after.avoided - before.avoided, 0) / seconds,
    )
