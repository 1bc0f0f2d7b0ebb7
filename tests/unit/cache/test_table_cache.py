from __future__ import annotations

import pytest
from attrs import evolve

from mailmapd.cache import ABSENCE, TableCache
from mailmapd.cache.table_cache import _ERAS, Absence, Payload
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
    return TableCache(settings)


def look(cache: TableCache, key: bytes, now: float) -> tuple[object, bool] | None:
    """Return what is known of a key, and whether it should be fetched anew."""
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
    cache.store(b"k", ABSENCE, 0.0)
    assert look(cache, b"k", 29.9) == (ABSENCE, False)
    assert look(cache, b"k", 30.0) is None
    assert cache.stale(b"k", 79.9) is ABSENCE
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
    cache.store(b"k", ABSENCE, 0.0)
    cache.store(b"k", b"v", 1.0)
    assert look(cache, b"k", 1.0) == (b"v", False)
    assert len(cache.absences) == 0
    cache.store(b"k", ABSENCE, 2.0)
    assert look(cache, b"k", 2.0) == (ABSENCE, False)
    assert len(cache.rows) == 0


def test_budgets() -> None:
    """A flood of absences evicts absences only, and each eviction is counted."""
    cache = make(evolve(SETTINGS, max_entries=2, max_negative_entries=3))
    cache.store(b"real", b"v", 0.0)
    for number in range(1000):
        cache.store(b"unknown%d" % number, ABSENCE, 0.0)
    assert look(cache, b"real", 0.0) == (b"v", False)
    assert len(cache.absences) == 3
    assert cache.absences.evictions == 997
    assert cache.rows.evictions == 0


@pytest.mark.parametrize("known", [b"1", ABSENCE])
def test_least_recently_used(known: Payload | Absence) -> None:
    """A budget drops the row, or the absence, that was not used for the longest time."""
    cache = make(evolve(SETTINGS, max_entries=2, max_negative_entries=2))
    cache.store(b"a", known, 0.0)
    cache.store(b"b", known, 0.0)
    look(cache, b"a", 0.0)
    cache.store(b"c", known, 0.0)
    assert look(cache, b"b", 0.0) is None
    assert look(cache, b"a", 0.0) == (known, False)


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


def test_when_it_was_stored() -> None:
    """When an entry was stored can be told by its time, whether it was given the ordinary one or a longer one."""
    cache = make(evolve(SETTINGS, jitter=0.1))
    watched = 5_000.0  # since when entries are given more time
    cases = [
        (4_990.0, None, 5_010.0),
        (6_000.0, 86_400.0, 6_001.0),
        (6_000.0, 86_400.0, 6_000.0 + 86_400.0 * 0.99),
        (6_000.0, 86_400.0, 6_000.0 + 86_400.0 * 1.1),
    ]
    for found in (b"v", ABSENCE):
        for number, (stored, lifetime, now) in enumerate(cases):
            key = b"%d of %d" % (number, found is ABSENCE)
            cache.store(key, found, stored, lifetime)
            assert cache.stored_at(key, now, watched) == pytest.approx(stored, abs=0.01)
    assert cache.stored_at(b"0 of 0", 5_010.0, float("inf")) == pytest.approx(4_990.0, abs=0.01)
    assert cache.stored_at(b"other", 5_010.0, watched) is None


def test_drop() -> None:
    """A dropped key is unknown, of whichever kind it was, and dropping says whether there was anything."""
    cache = make()
    cache.store(b"a", b"v", 0.0)
    cache.store(b"b", ABSENCE, 0.0)
    assert [cache.drop(b"a"), cache.drop(b"b"), cache.drop(b"c")] == [True, True, False]
    assert cache.stale(b"a", 0.0) is None
    assert cache.stale(b"b", 0.0) is None


def test_clear() -> None:
    """Clearing forgets rows and absences at once and hands them over to be freed."""
    cache = make()
    cache.store(b"a", b"v", 0.0)
    cache.store(b"b", ABSENCE, 0.0)
    assert sorted(cache.keys()) == [b"a", b"b"]
    assert [len(budget) for budget in cache.clear()] == [1, 1]
    assert cache.keys() == []


@pytest.mark.parametrize("ttl", [0.0, 10.0])
def test_no_negative_caching(ttl: float) -> None:
    """With negative_ttl = 0 an absence is never answered from memory."""
    cache = make(evolve(SETTINGS, negative_ttl=Seconds(0.0), negative_stale_ttl=Seconds(ttl)))
    cache.store(b"k", ABSENCE, 0.0)
    assert look(cache, b"k", 0.0) is None


def distrusted(settings: CacheSection = SETTINGS) -> TableCache:
    """Return a cache with a row and an absence of the time 0, kept for long, and distrusted from 50 on."""
    cache = make(settings)
    cache.store(b"row", b"v", 0.0, 10_000.0)
    cache.store(b"absence", ABSENCE, 0.0, 10_000.0)
    cache.distrust(50.0)
    return cache


def test_distrusted() -> None:
    """Distrusted entries answer and are fetched anew for `ttl` from the moment, and are stale then."""
    cache = distrusted()
    assert look(cache, b"row", 60.0) == (b"v", True)
    assert look(cache, b"absence", 60.0) == (ABSENCE, True)
    assert look(cache, b"absence", 79.9) is not None
    assert look(cache, b"absence", 80.0) is None
    assert look(cache, b"row", 149.9) == (b"v", True)
    assert look(cache, b"row", 150.0) is None
    assert cache.held(b"row", 60.0) is None
    assert cache.stale(b"row", 1149.9) == b"v"
    assert cache.stale(b"row", 1150.0) is None


def test_stored_after_a_distrust() -> None:
    """What is stored after a distrust is believed, whatever is known of the others."""
    cache = distrusted()
    cache.store(b"row", b"new", 60.0, 10_000.0)
    assert look(cache, b"row", 9_000.0) == (b"new", False)


def test_distrusted_from_an_earlier_moment() -> None:
    """The earliest moment counts: what one host proves says nothing of what another one has changed."""
    cache = distrusted()
    cache.distrust(40.0)
    assert look(cache, b"row", 139.9) == (b"v", True)
    assert look(cache, b"row", 140.0) is None
    cache.distrust(70.0)
    assert look(cache, b"row", 140.0) is None


def test_distrust_touches_no_entry() -> None:
    """No entry is looked at, written or freed when it is distrusted."""
    cache = make()
    for number in range(1000):
        cache.store(b"%d" % number, b"v", 0.0)
    before = {key: id(packed) for key, packed in cache.rows.entries.items()}
    cache.distrust(0.0)
    assert {key: id(packed) for key, packed in cache.rows.entries.items()} == before


def test_distrusted_again_and_again() -> None:
    """However often a table is distrusted, nothing is forgotten, and nothing believed for longer than it may be."""
    cache = distrusted()
    for number in range(_ERAS + 100):
        cache.store(b"%d" % (number % 10), b"%d" % number, 60.0, 10_000.0)
        cache.distrust(60.0)
    cache.store(b"last", b"v", 60.0, 10_000.0)
    assert len(cache.keys()) == 13
    assert look(cache, b"row", 61.0) == (b"v", True)
    for key in (b"row", b"last", b"5"):
        assert cache.held(key, 61.0) is None
        assert look(cache, key, 160.0) is None
        assert cache.stale(key, 160.0) is not None


def test_swept_eras_are_free() -> None:
    """A sweep writes into entries what a distrust made of them: they are as stale as before, new ones believed."""
    cache = distrusted(evolve(SETTINGS, negative_stale_ttl=Seconds(1000.0)))
    cache.store(b"pair", (b"a", b"b"), 60.0, 10_000.0)
    for _ in range(_ERAS):
        cache.distrust(60.0)
    cache.store(b"in between", b"v", 60.0, 10_000.0)
    cache.store(b"nobody", ABSENCE, 60.0, 10_000.0)
    before = {key: cache.peek(key) for key in (b"row", b"pair", b"in between", b"nobody")}
    for now in (130.0, 161.0, 161.0):
        sweep = cache.sweep(lambda now=now: now, 1)  # type: ignore[misc]
        next(sweep)
        cache.store(b"meanwhile", b"v", now, 10_000.0)
        list(sweep)
    cache.store(b"now", b"v", 161.0, 10_000.0)
    for key, entry in before.items():
        swept = cache.peek(key)
        assert entry is not None
        assert swept is not None
        assert swept[0] == entry[0]
        assert swept[1] == pytest.approx(entry[1], abs=0.01)
    assert look(cache, b"row", 161.0) is None
    assert look(cache, b"now", 9_000.0) == (b"v", False)
    assert look(cache, b"meanwhile", 9_000.0) == (b"v", False)


def test_distrusted_while_a_sweep_is_under_way() -> None:
    """What was stored and distrusted during a sweep stays distrusted, also when no era was free."""
    cache = distrusted()
    for _ in range(_ERAS):
        cache.distrust(60.0)
    sweep = cache.sweep(lambda: 170.0, 1)
    next(sweep)
    cache.store(b"meanwhile", b"v", 170.0, 10_000.0)
    cache.distrust(170.0)
    list(sweep)
    assert look(cache, b"meanwhile", 271.0) is None


def test_no_mark_makes_an_entry_live_longer() -> None:
    """Whichever era an entry is of, it is fresh until its time and not a moment longer."""
    cache = make()
    for number in range(50):
        cache.distrust(0.0)
        now = 1000.0 + number / 7
        cache.store(b"k", ABSENCE, now)
        assert look(cache, b"k", now + 30.0) is None
        assert look(cache, b"k", now + 30.0 - 0.01) == (ABSENCE, False)
