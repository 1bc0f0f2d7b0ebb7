from __future__ import annotations

import random

import pytest
from attrs import evolve

from mailmapd.cache import NO_ROW, TableCache
from mailmapd.config.schema import CacheSection, Seconds

SETTINGS = CacheSection(
    ttl=Seconds(100.0),
    negative_ttl=Seconds(30.0),
    stale_ttl=Seconds(1000.0),
    negative_stale_ttl=Seconds(50.0),
    refresh_ahead=0.2,
    jitter=0.0,
)
"""No jitter: 100 s to live, of which the last 20 s refresh, 30 s for absences."""


def make(settings: CacheSection = SETTINGS) -> TableCache:
    return TableCache(settings, random.Random(1))


def look(cache: TableCache, key: bytes, now: float) -> tuple[object, bool] | None:
    """What is known of a key, and whether it should be fetched anew."""
    entry = cache.get(key, now)
    return None if entry is None else (entry[0], now >= entry[1])


def test_fresh() -> None:
    """A stored row is answered, and not fetched anew, until its refresh age begins."""
    cache = make()
    cache.store(b"k", b"v", 0.0)
    assert look(cache, b"k", 0.0) == (b"v", False)
    assert look(cache, b"k", 79.9) == (b"v", False)


def test_refresh() -> None:
    """In its refresh age a row is answered and asks to be fetched anew."""
    cache = make()
    cache.store(b"k", b"v", 0.0)
    assert look(cache, b"k", 80.0) == (b"v", True)
    assert look(cache, b"k", 99.9) == (b"v", True)


def test_stale() -> None:
    """An expired row is no answer, but stale until its stale time has passed; then it is gone."""
    cache = make()
    cache.store(b"k", b"v", 0.0)
    assert look(cache, b"k", 100.0) is None
    assert cache.stale(b"k", 1099.9) == b"v"
    assert cache.stale(b"k", 1100.0) is None
    assert len(cache.rows) == 0


def test_absence() -> None:
    """A definite absence lives for its own time and its own stale time, and is never fetched anew before it expires."""
    cache = make()
    cache.store(b"k", NO_ROW, 0.0)
    assert look(cache, b"k", 29.9) == (NO_ROW, False)
    assert look(cache, b"k", 30.0) is None
    assert cache.stale(b"k", 79.9) is NO_ROW
    assert cache.stale(b"k", 80.0) is None
    assert len(cache.absences) == 0


def test_unknown() -> None:
    """What was never stored is neither known nor stale."""
    cache = make()
    assert look(cache, b"k", 0.0) is None
    assert cache.stale(b"k", 0.0) is None


def test_replaced() -> None:
    """A row replaces an absence and the other way round; one key is never both."""
    cache = make()
    cache.store(b"k", NO_ROW, 0.0)
    cache.store(b"k", b"v", 1.0)
    assert look(cache, b"k", 1.0) == (b"v", False)
    assert len(cache.absences) == 0
    cache.store(b"k", NO_ROW, 2.0)
    assert look(cache, b"k", 2.0) == (NO_ROW, False)
    assert len(cache.rows) == 0


def test_budgets() -> None:
    """A flood of absences evicts absences only, and each eviction is counted."""
    cache = make(evolve(SETTINGS, max_entries=2, max_negative_entries=3))
    cache.store(b"real", b"v", 0.0)
    for number in range(1000):
        cache.store(b"unknown%d" % number, NO_ROW, 0.0)
    assert look(cache, b"real", 0.0) == (b"v", False)
    assert len(cache.absences) == 3
    assert cache.absences.evictions == 997
    assert cache.rows.evictions == 0


def test_least_recently_used() -> None:
    """The budget drops the row that was not used for the longest time."""
    cache = make(evolve(SETTINGS, max_entries=2))
    cache.store(b"a", b"1", 0.0)
    cache.store(b"b", b"2", 0.0)
    look(cache, b"a", 0.0)
    cache.store(b"c", b"3", 0.0)
    assert look(cache, b"b", 0.0) is None
    assert look(cache, b"a", 0.0) == (b"1", False)


def test_jitter() -> None:
    """Rows stored together expire at different times, none of them later than the time to live and
    none much earlier.
    """
    cache = make(evolve(SETTINGS, jitter=0.1, refresh_ahead=0.0))
    for number in range(200):
        cache.store(b"%d" % number, b"v", 0.0)
    expired_by_95 = sum(look(cache, b"%d" % number, 95.0) is None for number in range(200))
    assert 50 < expired_by_95 < 150
    assert all(look(cache, b"%d" % number, 89.9) for number in range(200))
    assert not any(look(cache, b"%d" % number, 100.0) for number in range(200))


def test_drop() -> None:
    """A dropped key is unknown, of whichever kind it was, and dropping says whether there was anything."""
    cache = make()
    cache.store(b"a", b"v", 0.0)
    cache.store(b"b", NO_ROW, 0.0)
    assert [cache.drop(b"a"), cache.drop(b"b"), cache.drop(b"c")] == [True, True, False]
    assert cache.stale(b"a", 0.0) is None
    assert cache.stale(b"b", 0.0) is None


def test_clear() -> None:
    """Clearing forgets rows and absences at once and hands them over to be freed."""
    cache = make()
    cache.store(b"a", b"v", 0.0)
    cache.store(b"b", NO_ROW, 0.0)
    assert sorted(cache.keys()) == [b"a", b"b"]
    assert [len(budget) for budget in cache.clear()] == [1, 1]
    assert cache.keys() == []


@pytest.mark.parametrize("ttl", [0.0, 10.0])
def test_no_negative_caching(ttl: float) -> None:
    """With negative_ttl = 0 an absence is never answered from memory."""
    cache = make(evolve(SETTINGS, negative_ttl=Seconds(0.0), negative_stale_ttl=Seconds(ttl)))
    cache.store(b"k", NO_ROW, 0.0)
    assert look(cache, b"k", 0.0) is None
