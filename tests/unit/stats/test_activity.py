from __future__ import annotations

import copy

import pytest

from mailmapd.engine.meters import BUCKETS, LookupMeter
from mailmapd.engine.outcome import Source
from mailmapd.model import NOT_FOUND, Found, TempFail
from mailmapd.stats.activity import between, quantile
from mailmapd.stats.snapshot import CacheState, HostState, Lookups, Snapshot, lookups_by_name


def snapshot(maps: dict[str, Lookups] | None = None, time: float = 1000.0) -> Snapshot:
    """A daemon with one map, one table and one database, at its start unless told otherwise."""
    idle = lookups_by_name(
        [LookupMeter("socketmap", "aliases"), LookupMeter("socketmap", "")], {"aliases": 0}
    )
    table: CacheState = {
        "hits": 0,
        "negative_hits": 0,
        "stale": 0,
        "coalesced": 0,
        "misses": 0,
        "entries": 0,
        "negative_entries": 0,
        "max_entries": 1_000_000,
        "max_negative_entries": 200_000,
        "evictions": 0,
        "negative_evictions": 0,
        "schema_error": "",
        "invalidations": {"key": 0, "reverse": 0, "table": 0, "distrust": 0},
        "audits": {"same": 0, "outdated": 0, "failed": 0},
    }
    host: HostState = {
        "host": "db:3306",
        "up": True,
        "reached": True,
        "idle": 1,
        "busy": 0,
        "last_error": "",
    }
    return {
        "version": "1.0.0",
        "started": 1000.0,
        "time": time,
        "config": {"file": "mailmapd.toml", "loaded": 1000.0, "reload_failed": False},
        "problems": [],
        "buckets": list(BUCKETS),
        "maps": idle if maps is None else maps,
        "dicts": {},
        "tables": {"alias": table},
        "feeds": [],
        "cluster": None,
        "databases": {"mail": {"hosts": [host], "queries": {}}},
        "memory": {"max_bytes": 2**30, "bytes": {"positive": 0}},
        "listeners": {
            "socketmap": {"connections": 1, "refused": 0, "protocol_errors": {}, "unknown_names": 0}
        },
    }


def test_rates() -> None:
    """Rates, the share from memory and latencies are those of the time between two snapshots."""
    meter = LookupMeter("socketmap", "aliases")
    for _ in range(100):
        meter.count(NOT_FOUND, Source.DATABASE, 1.0)
    before = snapshot(maps=lookups_by_name([meter], {"aliases": 50}))
    for _ in range(90):
        meter.count(Found(b"v"), Source.CACHE, 0.000003)
    for _ in range(10):
        meter.count(TempFail("away"), Source.DATABASE, 0.002)
    after = snapshot(maps=lookups_by_name([meter], {"aliases": 250}), time=1010.0)
    [figures] = between(before, after).lookups
    assert (
        figures.name,
        figures.rate,
        figures.from_memory,
        figures.tempfail_rate,
        figures.avoided_rate,
    ) == (
        "aliases",
        10.0,
        0.9,
        1.0,
        20.0,
    )
    assert figures.median is not None
    assert 0 < figures.median <= 0.000005
    assert figures.p99 is not None
    assert 0.001 < figures.p99 <= 0.0025


def test_since_the_start() -> None:
    """Without an earlier snapshot, or with one of another process, everything since the start counts."""
    meter = LookupMeter("socketmap", "aliases")
    meter.count(NOT_FOUND, Source.CACHE, 0.1)
    after = snapshot(maps=lookups_by_name([meter], {"aliases": 0}), time=1010.0)
    other = copy.deepcopy(after)
    other["started"] = 900.0
    for before in (None, other):
        activity = between(before, after)
        assert activity.rate == 0.1
        assert activity.from_memory == 1.0


def test_idle() -> None:
    """Nothing asked is no share and no latency, not zero.

    A map that does not exist shows up only when somebody asks for one.
    """
    [figures] = between(snapshot(), snapshot(time=1001.0)).lookups
    assert (figures.name, figures.rate, figures.from_memory, figures.median, figures.p99) == (
        "aliases",
        0.0,
        None,
        None,
        None,
    )
    assert between(None, snapshot()).from_memory is None


def test_tables_and_databases() -> None:
    """Tables and databases have rates, too, and their state is the later one."""
    before, after = snapshot(), snapshot(time=1002.0)
    after["tables"]["alias"].update(
        {"hits": 6, "negative_hits": 2, "misses": 1, "coalesced": 1, "evictions": 4, "entries": 7}
    )
    after["databases"]["mail"]["queries"] = {"ok": 8, "timeout": 2}
    activity = between(before, after)
    [table], [database] = activity.tables, activity.databases
    assert (table.rate, table.from_memory, table.eviction_rate, table.state["entries"]) == (
        5.0,
        0.8,
        2.0,
        7,
    )
    assert (database.rate, database.failure_rate) == (5.0, 1.0)


@pytest.mark.parametrize(
    ("counts", "fraction", "expected"),
    [
        ([0, 0, 0], 0.5, None),
        ([4, 0, 0], 0.5, 0.5),
        ([0, 4, 0], 0.5, 1.5),
        ([2, 2, 0], 0.99, 1.98),
        ([0, 0, 4], 0.5, 2.0),
    ],
)
def test_quantile(counts: list[int], fraction: float, expected: float | None) -> None:
    """A quantile is interpolated within its bucket; beyond the last bound, that bound is all that is known."""
    assert quantile(counts, [1.0, 2.0], fraction) == expected
