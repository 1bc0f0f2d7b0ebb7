"""Snapshots: every counter of a running daemon at one moment, as plain values that JSON can hold.

    {"version": "0.1.0", "started": 1790000000.0, "time": 1790000600.0,          seconds since the epoch
     "config": {"file": "/etc/mailmapd/mailmapd.toml", "loaded": 1790000000.0, "reload_failed": false},
     "problems": ["database mail: no host can be reached (…)"],
     "buckets": [0.000005, …, 10.0],    upper bounds of the latencies' counts, in seconds
     "maps": {"virtual_alias_maps": {"results": {"found": 3, "notfound": 1, "tempfail": 0, "permfail": 0}, "avoided": 7,
                                     "latencies": {"cache": {"counts": […], "total": 0.0001},
                                     "stale": {…}, "database": {…}}}},
     "dicts": {"auth": {…}},                                                     the same
     "tables": {"alias": {"hits": 0, "negative_hits": 0, "stale": 0, "coalesced": 0, "misses": 0,
                          "entries": 0, "negative_entries": 0,
                          "max_entries": 1000000, "max_negative_entries": 200000,
                          "evictions": 0, "negative_evictions": 0, "schema_error": "",
                          "invalidations": {"key": 3, "reverse": 0, "table": 0, "distrust": 0},
                          "audits": {"same": 8, "outdated": 0, "failed": 0}}},
     "databases": {"mail": {"hosts": [{"host": "db1:3306", "up": true, "reached": true, "idle": 7, "busy": 1,
     "last_error": ""}], "queries": {"ok": 12}}},
     "feeds": [{"database": "mail", "host": "db1:3306", "following": true, "reason": "", "silence": 0.4,
                "last_change": 12.5, "counts": {"row": 7}, "followed": ["alias"],
                "not_followed": {"vacation": "its answer depends on …"}}],
     "cluster": {"host": "mx1", "up": true, "reason": "", "mute": "", "lag": 0.4, "gaps": 0,
                 "messages": {"sent": 7, "received": 3, "foreign": 0, "unknown": 0},
                 "followers": ["mx2"], "watched": {"mail": ["alias"]},
                 "second_level": {"up": true, "reason": "", "used": 1048576,        null where it is off
                                  "answers": {"hit": 7, …}, "shared": {"filled": 5, …}, "doubts": 0}},
                                                                                    null without a fleet
     "listeners": {"socketmap": {"connections": 12,
     "refused": 0, "protocol_errors": {"bad_length": 1}, "unknown_names": 0}}}

Counts only grow while the daemon runs; lookups of maps that do not exist are those of the map "".
Nothing in it is secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypedDict

from mailmapd.engine.engine import Engine
from mailmapd.engine.meters import RESULTS, LookupMeter
from mailmapd.engine.outcome import Source
from mailmapd.engine.table import Table
from mailmapd.model.legible import legible


class Latencies(TypedDict):
    """A histogram: lookups by bucket, the last count being for all that took longer, and the sum of their seconds."""

    counts: list[int]
    total: float


class Lookups(TypedDict):
    """The lookups of one map or dict."""

    results: dict[str, int]
    latencies: dict[str, Latencies]
    avoided: int


class FeedState(TypedDict):
    """The state of following one server's changes, and the tables that are followed by it.

    `silence` is for how many seconds nothing was heard, `last_change` how many seconds ago a row changed that matters.
    """

    database: str
    host: str
    following: bool
    reason: str
    silence: float
    last_change: float | None
    counts: dict[str, int]
    followed: list[str]
    not_followed: dict[str, str]


SECOND_ANSWERS = ("hit", "miss", "stale", "disbelieved", "garbage", "late", "skipped")
"""Outcomes of questions to the second level; one that is skipped was put to the database at once."""

SECOND_SHARED = ("filled", "refused", "dropped")
"""Outcomes of answers that are to be shared: refused where touched meanwhile, dropped for want of room or time."""


class SecondLevelState(TypedDict):
    """The second level, as this host sees it; `used` are the bytes that the server used when it was last looked at."""

    up: bool
    reason: str
    used: int
    answers: dict[str, int]
    shared: dict[str, int]
    doubts: int


class ClusterState(TypedDict):
    """The state of the fleet, as this host hears it.

    `mute` says why it cannot tell the others anything, `lag` is the age of the last proof that nothing was missed, in
    seconds; `followers` are the hosts that vouch for changes, `watched` the tables that are kept for long because
    of it, by database.
    """

    host: str
    up: bool
    reason: str
    mute: str
    lag: float
    gaps: int
    messages: dict[str, int]
    followers: list[str]
    watched: dict[str, list[str]]
    second_level: SecondLevelState | None


class MemberState(TypedDict):
    """One host of the fleet, as it says itself; `at` is when it said so, in seconds since the epoch.

    `same_key` tells whether it has the key of this host, and `confirmed` whether it has carried out the last flush of
    any host; None when there was none that is known.
    """

    version: str
    at: float
    position: str
    lag: float
    ratio: float | None
    config: str
    follows: list[str]
    watched: int
    left: bool
    same_key: bool
    confirmed: bool | None


class CacheState(TypedDict):
    """The cache of one table."""

    hits: int
    negative_hits: int
    stale: int
    coalesced: int
    misses: int
    entries: int
    negative_entries: int
    max_entries: int
    max_negative_entries: int
    evictions: int
    negative_evictions: int
    schema_error: str
    invalidations: dict[str, int]
    audits: dict[str, int]


class HostState(TypedDict):
    """One host of a database; none is called up before its database was `reached` for the first time."""

    host: str
    up: bool
    reached: bool
    idle: int
    busy: int
    last_error: str


class DatabaseState(TypedDict):
    """A database: its hosts, and its queries by outcome."""

    hosts: list[HostState]
    queries: dict[str, int]


class ListenerState(TypedDict):
    """The clients of one listener."""

    connections: int
    refused: int
    protocol_errors: dict[str, int]
    unknown_names: int


class ConfigState(TypedDict):
    """The origin of the configuration in force."""

    file: str
    loaded: float
    reload_failed: bool


class MemoryState(TypedDict):
    """The memory of everything remembered, in bytes: what there may be, and what there is of each kind."""

    max_bytes: int
    bytes: dict[str, int]


class Snapshot(TypedDict):
    """See the module."""

    version: str
    started: float
    time: float
    config: ConfigState
    problems: list[str]
    buckets: list[float]
    maps: dict[str, Lookups]
    dicts: dict[str, Lookups]
    tables: dict[str, CacheState]
    databases: dict[str, DatabaseState]
    feeds: list[FeedState]
    cluster: ClusterState | None
    listeners: dict[str, ListenerState]
    memory: MemoryState


def lookups_by_name(
    meters: Iterable[LookupMeter], avoided: Mapping[str, int]
) -> dict[str, Lookups]:
    """Return what was asked of each map (or dict), over all listeners; every configured one is there, asked or not."""
    found: dict[str, Lookups] = {name: _no_lookups(name, avoided) for name in avoided}
    for meter in meters:
        lookups = found.setdefault(meter.name, _no_lookups(meter.name, avoided))
        for result, count in zip(RESULTS, meter.results, strict=True):
            lookups["results"][result] += count
        for source, histogram in meter.latencies.items():
            latencies = lookups["latencies"][source.name.lower()]
            latencies["counts"] = [
                a + b
                for a, b in zip(
                    latencies["counts"] or [0] * len(histogram.counts),
                    histogram.counts,
                    strict=True,
                )
            ]
            latencies["total"] += histogram.total
    return {
        name: lookups for name, lookups in found.items() if name or sum(lookups["results"].values())
    }


def _no_lookups(name: str, avoided: Mapping[str, int]) -> Lookups:
    return {
        "results": dict.fromkeys(RESULTS, 0),
        "latencies": {source.name.lower(): {"counts": [], "total": 0.0} for source in Source},
        "avoided": avoided.get(name, 0),
    }


def cache_state(table: Table) -> CacheState:
    """Return the state of a table's cache."""
    return {
        "hits": table.hits,
        "negative_hits": table.negative_hits,
        "stale": table.stale,
        "coalesced": table.coalesced,
        "misses": table.misses,
        "entries": len(table.cache.rows),
        "negative_entries": len(table.cache.absences),
        "max_entries": table.cache.settings.max_entries,
        "max_negative_entries": table.cache.settings.max_negative_entries,
        "evictions": table.cache.rows.evictions,
        "negative_evictions": table.cache.absences.evictions,
        "schema_error": legible(table.schema_error),
        "invalidations": dict(table.invalidations),
        "audits": dict(table.audits),
    }


def database_states(
    engine: Engine,
    queries: Mapping[tuple[str, str, str], int],
    reached: Callable[[str], bool],
) -> dict[str, DatabaseState]:
    """Return the state of each database; `queries` counts by (database, host, outcome)."""
    found: dict[str, DatabaseState] = {}
    for name, database in engine.databases.items():
        hosts: list[HostState] = [
            {
                "host": host.host,
                "up": host.up and reached(name),
                "reached": reached(name),
                "idle": host.idle,
                "busy": host.busy,
                "last_error": legible(host.last_error),
            }
            for host in database.status()
        ]
        found[name] = {"hosts": hosts, "queries": {}}
    for (name, _, outcome), count in queries.items():
        if name in found:
            by_outcome = found[name]["queries"]
            by_outcome[outcome] = by_outcome.get(outcome, 0) + count
    return found
