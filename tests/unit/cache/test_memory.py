from __future__ import annotations

import gc
import tracemalloc

from mailmapd.cache.memory import NEGATIVE, POSITIVE, SHARES, Memory
from mailmapd.cache.table_cache import ABSENCE, KEPT_KEY, TableCache
from mailmapd.config.schema import CacheSection

SETTINGS = CacheSection()
MIB = 2**20


def key(number: int, length: int = 0) -> bytes:
    return (b"user%07d@example.com" % number).rjust(length, b"x")


def fill(cache: TableCache, count: int, found: bytes | None = None, length: int = 0) -> None:
    for number in range(count):
        cache.store(key(number, length), ABSENCE if found is None else found, 1.0)


def sweep(cache: TableCache, now: float) -> int:
    return sum(cache.sweep(lambda: now, 1000))


def test_never_more_than_the_share() -> None:
    """However many entries are stored, and however long, each kind stays within its share of the bytes."""
    memory = Memory(4 * MIB)
    cache = TableCache(SETTINGS, memory=memory)
    for length in (30, 1000):
        fill(cache, 20_000, length=length)
        fill(cache, 20_000, b"v" * length, length=length)
        assert memory.used[NEGATIVE] <= 4 * MIB * SHARES[NEGATIVE]
        assert memory.used[POSITIVE] <= 4 * MIB * SHARES[POSITIVE]
        assert memory.used[POSITIVE] > 2 * MIB
    assert cache.rows.evictions > 0


def test_unknown_ones_evict_no_known_one() -> None:
    """A flood of unknown keys fills its own share, and every row stays."""
    cache = TableCache(SETTINGS, memory=Memory(4 * MIB))
    fill(cache, 5000, b"row")
    for number in range(100_000):
        cache.store(b"nobody%d" % number, ABSENCE, 1.0)
    assert len(cache.rows) == 5000
    assert cache.rows.evictions == 0


def test_a_flood_in_one_table_evicts_its_own() -> None:
    """When a share is full, the fullest table makes room: entries of a small one stay."""
    memory = Memory(4 * MIB)
    small, large = TableCache(SETTINGS, memory=memory), TableCache(SETTINGS, memory=memory)
    fill(small, 1000, b"row")
    fill(large, 50_000, b"row")
    assert len(small.rows) == 1000
    assert small.rows.evictions == 0
    assert large.rows.evictions > 30_000


def test_nothing_of_very_long_keys() -> None:
    """Nothing is kept of a key that no address can have."""
    cache = TableCache(SETTINGS, memory=Memory(4 * MIB))
    cache.store(b"k" * (KEPT_KEY + 1), b"row", 1.0)
    cache.store(b"n" * (KEPT_KEY + 1), ABSENCE, 1.0)
    assert cache.keys() == []
    cache.store(b"k" * KEPT_KEY, b"row", 1.0)
    assert len(cache.keys()) == 1


def test_counts_come_back_to_nothing() -> None:
    """Replaced, dropped, swept and cleared entries leave nothing in the counts."""
    memory = Memory()
    cache = TableCache(SETTINGS, memory=memory)
    for value in (b"short", b"a longer one", (b"two", b"values")):
        cache.store(b"a", value, 1.0)
    cache.store(b"a", ABSENCE, 1.0)
    cache.store(b"b", b"row", 1.0)
    cache.drop(b"a")
    assert sweep(cache, 1e9) == 1
    assert memory.used == dict.fromkeys(SHARES, 0)
    fill(cache, 100, b"row")
    fill(cache, 100)
    assert memory.used[NEGATIVE] > 0
    old = cache.clear()
    assert memory.used == dict.fromkeys(SHARES, 0)
    fill(cache, 10, b"row")
    used = memory.used
    for budget in old:
        budget.release(50)
        budget.clear()
    assert memory.used == used
    del cache, old
    gc.collect()
    assert len(memory.shares[POSITIVE].budgets) == 0


def test_bytes_are_real_ones() -> None:
    """What is counted for an entry is what Python takes for it, not less and not twice as much."""
    memory = Memory()
    cache = TableCache(SETTINGS, memory=memory)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(40_000):
            cache.store(key(number), b"example.com/user%07d/" % number, 1.0)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.8 * taken < memory.used[POSITIVE] < 2 * taken
    assert memory.used[POSITIVE] / 40_000 <= 300


def test_sweep_keeps_what_is_of_use() -> None:
    """A look for useless entries drops those that not even an unreachable database makes answers."""
    cache = TableCache(SETTINGS)
    cache.store(b"row", b"value", 0.0)
    cache.store(b"absence", ABSENCE, 0.0)
    for now, left in ((3000.0, 2), (SETTINGS.negative_stale_ttl + 100.0, 1), (90_000.0, 0)):
        sweep(cache, now)
        assert len(cache.keys()) == left


def test_less_memory_step_by_step() -> None:
    """Where lookups have their turn meanwhile, what is too much goes a little at a time, and all of it in the end."""
    memory = Memory(64 * MIB)
    cache = TableCache(SETTINGS, memory=memory)
    fill(cache, 60_000, b"row")
    held, steps = len(cache.rows), 0
    for _ in memory.come_down(4 * MIB):
        assert held - len(cache.rows) < 3000
        held, steps = len(cache.rows), steps + 1
    assert steps > 10
    cache.store(b"one more", b"row", 1.0)
    assert memory.used[POSITIVE] <= 4 * MIB * SHARES[POSITIVE]
    assert memory.max_bytes == 4 * MIB


def test_more_memory_before_all_has_gone() -> None:
    """A reload that allows more ends what the one before has begun to free."""
    memory = Memory(64 * MIB)
    cache = TableCache(SETTINGS, memory=memory)
    fill(cache, 60_000, b"row")
    steps = memory.come_down(4 * MIB)
    next(steps)
    assert list(memory.come_down(64 * MIB)) == []
    held = len(cache.rows)
    assert list(steps) == []
    assert (len(cache.rows), memory.max_bytes) == (held, 64 * MIB)
    fill(cache, 60_000, b"row")
    assert len(cache.rows) == 60_000


def test_less_memory_after_a_reload() -> None:
    """When the configuration allows less, the next entries make room for it."""
    memory = Memory(8 * MIB)
    cache = TableCache(SETTINGS, memory=memory)
    fill(cache, 15_000, b"row")
    memory.max_bytes = MIB
    cache.store(b"one more", b"row", 1.0)
    assert memory.used[POSITIVE] <= MIB * SHARES[POSITIVE]
    assert cache.peek(b"one more") is not None
