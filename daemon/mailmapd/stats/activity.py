"""Activity: what happened between two snapshots, as `top` and the status page show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mailmapd.stats.snapshot import CacheState, HostState, Lookups, Snapshot


@dataclass(frozen=True)
class LookupActivity:
    """The lookups of one map or dict.

    How many a second, the part answered from memory, and latencies in seconds (None: no lookups).
    """

    name: str
    dict: bool
    rate: float
    from_memory: float | None
    median: float | None
    p99: float | None
    stale_rate: float
    tempfail_rate: float
    avoided_rate: float


@dataclass(frozen=True)
class TableActivity:
    """The cache of one table: questions a second, the part that memory answered, and the state at the end."""

    name: str
    rate: float
    from_memory: float | None
    eviction_rate: float
    state: CacheState


@dataclass(frozen=True)
class DatabaseActivity:
    """One database: queries a second, failures a second, and its hosts at the end."""

    name: str
    rate: float
    failure_rate: float
    hosts: list[HostState]


@dataclass(frozen=True)
class Activity:
    """Everything that happened in `seconds`; the busiest maps, dicts and tables come first."""

    seconds: float
    lookups: list[LookupActivity]
    tables: list[TableActivity]
    databases: list[DatabaseActivity]

    @property
    def rate(self) -> float:
        """Lookups a second, over all maps and dicts."""
        return sum(lookup.rate for lookup in self.lookups)

    @property
    def from_memory(self) -> float | None:
        """Return the part of all lookups that memory answered."""
        rate = self.rate
        return (
            sum(lookup.rate * (lookup.from_memory or 0.0) for lookup in self.lookups) / rate
            if rate
            else None
        )


def between(before: Snapshot | None, after: Snapshot) -> Activity:
    """Return what happened between two snapshots of one daemon, or since its start without (a fitting) `before`."""
    if before is None or before["started"] != after["started"] or before["time"] >= after["time"]:
        before = None
    seconds = max(after["time"] - (after["started"] if before is None else before["time"]), 1e-3)
    maps, dicts = (before["maps"], before["dicts"]) if before else ({}, {})
    lookups = [
        *[
            _lookups(name, figures, maps.get(name), after, seconds, is_dict=False)
            for name, figures in after["maps"].items()
        ],
        *[
            _lookups(name, figures, dicts.get(name), after, seconds, is_dict=True)
            for name, figures in after["dicts"].items()
        ],
    ]
    tables = [
        _table(name, state, before["tables"].get(name) if before else None, seconds)
        for name, state in after["tables"].items()
    ]
    databases = [
        _database(
            name,
            after,
            before["databases"][name]["queries"] if before and name in before["databases"] else {},
            seconds,
        )
        for name in after["databases"]
    ]
    return Activity(
        seconds,
        sorted(lookups, key=lambda lookup: -lookup.rate),
        sorted(tables, key=lambda lookup: -lookup.rate),
        databases,
    )


def quantile(counts: list[int], buckets: list[float], fraction: float) -> float | None:
    """Return the latency below which `fraction` of the lookups lie, interpolated within its bucket.

    None without lookups.
    """
    wanted = sum(counts) * fraction
    if not wanted:
        return None
    below = 0.0
    for count, upper in zip(counts, buckets, strict=False):
        if count and wanted <= count:
            return below + (upper - below) * wanted / count
        wanted -= count
        below = upper
    return below  # longer than the last bound: as much as is known


def _lookups(
    name: str, now: Lookups, then: Lookups | None, after: Snapshot, seconds: float, *, is_dict: bool
) -> LookupActivity:
    counts = {
        source: _grown(latency["counts"], then["latencies"][source]["counts"] if then else [])
        for source, latency in now["latencies"].items()
    }
    merged = [sum(column) for column in zip(*counts.values(), strict=True)]
    total = sum(merged)
    tempfails = now["results"]["tempfail"] - (then["results"]["tempfail"] if then else 0)
    return LookupActivity(
        name=name,
        dict=is_dict,
        rate=total / seconds,
        from_memory=sum(counts["cache"]) / total if total else None,
        median=quantile(merged, after["buckets"], 0.5),
        p99=quantile(merged, after["buckets"], 0.99),
        stale_rate=sum(counts["stale"]) / seconds,
        tempfail_rate=max(tempfails, 0) / seconds,
        avoided_rate=max(now["avoided"] - (then["avoided"] if then else 0), 0) / seconds,
    )


def _grown(now: list[int], then: list[int]) -> list[int]:
    if len(then) != len(now):  # nothing was counted then, or a listener has gone since
        return now
    return [max(a - b, 0) for a, b in zip(now, then, strict=True)]


def _table(name: str, now: CacheState, then: CacheState | None, seconds: float) -> TableActivity:
    def grown(*keys: str) -> int:
        counters: Mapping[str, int] = {
            key: value for key, value in now.items() if isinstance(value, int)
        }
        earlier: Mapping[str, int] = (
            {key: value for key, value in then.items() if isinstance(value, int)} if then else {}
        )
        return sum(max(counters[key] - earlier.get(key, 0), 0) for key in keys)

    known = grown("hits", "negative_hits")
    asked = known + grown("misses", "coalesced")
    return TableActivity(
        name=name,
        rate=asked / seconds,
        from_memory=known / asked if asked else None,
        eviction_rate=grown("evictions", "negative_evictions") / seconds,
        state=now,
    )


def _database(
    name: str, after: Snapshot, earlier: Mapping[str, int], seconds: float
) -> DatabaseActivity:
    state = after["databases"][name]
    grown = {
        outcome: max(count - earlier.get(outcome, 0), 0)
        for outcome, count in state["queries"].items()
    }
    return DatabaseActivity(
        name=name,
        rate=sum(grown.values()) / seconds,
        failure_rate=(sum(grown.values()) - grown.get("ok", 0)) / seconds,
        hosts=state["hosts"],
    )
