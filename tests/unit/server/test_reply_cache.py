from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any

import pytest

from mailmapd.engine.answered import NEVER, Answered, Part, Use
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.meters import BUCKETS, LookupMeter
from mailmapd.model import Found
from mailmapd.server.reply_cache import (
    REPLY_LIMIT,
    REQUEST_LIMIT,
    ReplyCache,
    ReplyCaches,
    _all_of,
)


@dataclass(eq=False)
class Counted:
    """The counters of a table or a map, one of its kind."""

    name: str = ""
    hits: int = 0
    negative_hits: int = 0
    avoided: int = 0


def use() -> Use:
    """Two parts: the first table had no row, the second had one."""
    tables: list[Any] = [Counted("first"), Counted("second")]
    counted: Any = Counted()
    return Use(
        counted,
        LookupMeter("socketmap", "m"),
        0,
        (Part(tables[0], absent=True), Part(tables[1], absent=False)),
    )


def answered(counts: Use, keys: tuple[bytes, ...] = (b"a", b"b"), until: float = 10.0) -> Answered:
    """Return an answer made of these keys of the two tables."""
    return Answered(Found(b"reply"), until, counts, keys)


def of_key(table: str, *keys: bytes) -> Invalidation:
    return Invalidation(table, frozenset(keys))


def test_counted() -> None:
    """A remembered reply counts as a lookup, and as a hit of every table it was made of."""
    cache, counts = ReplyCache(), use()
    cache.remember(b"request", b"reply", answered(counts))
    found = cache.find(b"request", 5.0)
    assert found is not None
    assert found[0] == b"reply"
    cache.count(found, 0.000007)
    assert counts.meter.results == [1, 0, 0, 0]
    assert (counts.meter.from_cache.counts[1], counts.meter.from_cache.total) == (1, 0.000007)
    assert counts.asked.avoided == 2
    assert [(part.table.hits, part.table.negative_hits) for part in counts.parts] == [
        (0, 1),
        (1, 0),
    ]


def test_quick_ones_are_counted_together() -> None:
    """Lookups of the shortest kind are added up, and all of them are counted when the counts are settled."""
    cache, counts = ReplyCache(), use()
    cache.remember(b"request", b"reply", answered(counts))
    found = cache.find(b"request", 5.0)
    assert found is not None
    for _ in range(3):
        cache.count(found, 0.000002)
    cache.count(found, BUCKETS[0])
    counts.settle()
    counts.settle()
    assert counts.meter.results == [4, 0, 0, 0]
    assert counts.meter.from_cache.counts[:2] == [4, 0]
    assert counts.meter.from_cache.total == pytest.approx(0.000011)
    assert counts.asked.avoided == 8
    assert [(part.table.hits, part.table.negative_hits) for part in counts.parts] == [
        (0, 4),
        (4, 0),
    ]


def test_only_what_is_asked_again_is_kept() -> None:
    """The reply to a request that comes for the first time is not kept, and that to one that comes again is."""
    cache = ReplyCaches().of("socketmap")
    for number in range(1000):
        cache.remember(b"once %d" % number, b"reply", answered(use()))
    assert len(cache) == 0
    for _ in range(2):
        cache.remember(b"again", b"reply", answered(use()))
    assert len(cache) == 1
    assert cache.find(b"again", 0.0) is not None


def test_never_outlives_its_parts() -> None:
    """A reply is good until its first part is no longer fresh, and one that may not be given again is not kept."""
    cache = ReplyCache()
    cache.remember(b"request", b"reply", answered(use()))
    assert cache.find(b"request", 10.0) is None
    cache.remember(b"once", b"reply", Answered(Found(b"reply")))
    assert cache.find(b"once", NEVER) is None
    assert len(cache) == 1


def test_unknown() -> None:
    """Bytes never seen are not answered."""
    assert ReplyCache().find(b"request", 0.0) is None


def test_long_ones_are_not_kept() -> None:
    """Unusually long requests and replies are not remembered."""
    cache = ReplyCache()
    cache.remember(b"x" * (REQUEST_LIMIT + 1), b"reply", answered(use()))
    cache.remember(b"x", b"x" * (REPLY_LIMIT + 1), answered(use()))
    assert len(cache) == 0


@pytest.mark.parametrize(
    "touched", [of_key("first", b"a"), of_key("second", b"x", b"b"), of_key("first", b"a", b"z")]
)
def test_touched(touched: Invalidation) -> None:
    """A reply goes when any of its parts is touched, and every other one stays."""
    cache, counts = ReplyCache(), use()
    cache.remember(b"request", b"reply", answered(counts))
    cache.remember(b"other", b"reply", answered(counts, (b"b", b"a")))
    cache.forget(touched)
    assert cache.find(b"request", 0.0) is None
    assert cache.find(b"other", 0.0) is not None


def test_shared_parts() -> None:
    """All replies that share a part go with it, in either generation, and so does one that was made again."""
    cache, counts = ReplyCache(generation=10), use()
    for number in range(15):
        cache.remember(b"%d" % number, b"reply", answered(counts, (b"%d" % number, b"shared")))
    cache.remember(b"0", b"again", answered(counts, (b"0", b"shared")))
    cache.remember(b"alone", b"reply", answered(counts, (b"x", b"y")))
    cache.forget(of_key("second", b"shared"))
    assert len(cache) == 1
    assert cache.find(b"alone", 0.0) is not None


def test_a_part_that_very_many_share() -> None:
    """Very many replies that share a part are found no more at once, and dropped while new ones come; others stay."""
    cache, counts, many = ReplyCache(), use(), 20_000
    for number in range(many):
        cache.remember(b"%d" % number, b"reply", answered(counts, (b"%d" % number, b"shared")))
    cache.remember(b"alone", b"reply", answered(counts, (b"x", b"y")))
    cache.forget(of_key("second", b"shared"))
    assert len(cache) == many + 1, "lookups had to wait until all were dropped"
    assert [cache.find(b"%d" % number, 0.0) for number in range(many)] == [None] * many
    assert cache.find(b"alone", 0.0) is not None
    for number in range(many // 10):
        cache.remember(b"%d" % number, b"again", answered(counts, (b"%d" % number, b"shared")))
    assert len(cache) == many // 10 + 1
    assert cache.find(b"0", 0.0) is not None
    assert isinstance(cache._young, dict), "a recall costs more for longer than it has to"


def test_of_a_whole_table() -> None:
    """What names no keys takes every reply, and so does a distrust."""
    for touched in (Invalidation("first"), Invalidation(), Invalidation("first", before=1.0)):
        cache = ReplyCache()
        cache.remember(b"request", b"reply", answered(use()))
        cache.forget(touched)
        assert len(cache) == 0


def test_bounded() -> None:
    """At most two generations are kept with their indexes, and dropped ones are freed while new ones come."""
    cache, counts = ReplyCache(generation=10), use()
    for number in range(1000):
        key = b"%d" % number
        cache.remember(key, b"reply", answered(counts, (key, b"shared")))
        assert len(cache) <= 20
    assert sum(len(dropped) for dropped in cache._dropped) <= 22
    assert len(cache._young_index) + len(cache._old_index) <= 22


def test_bounded_with_many_parts() -> None:
    """Replies that are made of many entries each leave no more behind when they are dropped."""
    counted: Any = Counted()
    parts: list[Any] = [Part(Counted(str(number)), absent=True) for number in range(9)]
    counts = Use(counted, LookupMeter("socketmap", "m"), 0, tuple(parts))
    cache = ReplyCache(generation=10)
    for number in range(1000):
        key = b"%d" % number
        cache.remember(key, b"reply", answered(counts, (key,) * len(parts)))
    assert sum(len(dropped) for dropped in cache._dropped) <= 10 * (1 + len(parts))


def test_made_anew() -> None:
    """However few replies there are, one that is asked for all the time is made anew when it has aged twice."""
    caches = ReplyCaches()
    caches.of("dict", "auth").remember(b"request", b"reply", answered(use()))
    caches.of("dict", "auth").remember(b"request", b"reply", answered(use()))
    found = []
    for _ in range(3):
        found.append(caches.of("dict", "auth").find(b"request", 0.0) is not None)
        caches.age()
    assert found == [True, True, False]


def test_the_same_again_and_again() -> None:
    """A reply that is made anew each time it expires leaves nothing behind in the index."""
    cache, counts = ReplyCache(), use()
    cache.remember(b"other", b"reply", answered(counts, (b"o", b"shared")))
    for _ in range(100):
        cache.remember(b"request", b"reply", answered(counts, (b"a", b"shared")))
    sizes = [len(requests) for requests in cache._young_index.values() if isinstance(requests, set)]
    assert sizes == [2]


def test_forget_all() -> None:
    """Forgetting leaves nothing to find, and frees what was kept while new replies come."""
    cache, counts = ReplyCache(generation=10), use()
    for number in range(15):
        cache.remember(b"%d" % number, b"reply", answered(counts))
    cache.forget_all()
    assert len(cache) == 0
    assert cache.find(b"14", 0.0) is None
    for number in range(10):
        cache.remember(b"%d" % number, b"reply", answered(counts))
    assert sum(len(dropped) for dropped in cache._dropped) == 0


def test_forgetting_nothing_keeps_nothing() -> None:
    """Flushes without lookups between them leave nothing behind."""
    cache = ReplyCache()
    for number in range(100):
        cache.forget_all()
        if number % 10 == 0:
            cache.remember(b"request", b"reply", answered(use()))
    assert len(cache._dropped) <= 20


def test_caches_of_the_process() -> None:
    """Each listener and dict has its cache, always the same one, and what is touched goes in all of them."""
    caches = ReplyCaches()
    assert caches.of("dict", "auth") is caches.of("dict", "auth")
    assert caches.of("dict", "auth") is not caches.of("dict", "other")
    for name in ("auth", "other", "auth", "other"):
        caches.of("dict", name).remember(b"request", b"reply", answered(use()))
    assert [len(caches.of("dict", name)) for name in ("auth", "other")] == [1, 1]
    caches.forget(of_key("first", b"a"))
    assert [len(caches.of("dict", name)) for name in ("auth", "other")] == [0, 0]


def test_the_collector_sees_new_replies_soon() -> None:
    """New replies that the garbage collector has not looked at are never many, also where as many old ones go."""
    most = 1100  # twice as many as usual: while another thread collects, a collection does nothing
    cache, counts, unseen = ReplyCache(generation=3 * most), use(), 0
    gc.collect()
    gc.disable()
    try:
        for number in range(20 * most):
            cache.remember(b"%d" % number, b"reply", answered(counts, (b"%d" % number, b"")))
            if number % 100 == 0:
                unseen = max(unseen, sum(map(gc.is_tracked, _all_of(cache._young).values())))
    finally:
        gc.enable()
    assert 0 < unseen <= most
