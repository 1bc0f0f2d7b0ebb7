from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mailmapd.engine.meters import LookupMeter
from mailmapd.engine.reply_cache import REPLY_LIMIT, REQUEST_LIMIT, Part, ReplyCache, Use


@dataclass(eq=False)
class Counted:
    """The counters of a table or a map, one of its kind."""

    hits: int = 0
    negative_hits: int = 0
    avoided: int = 0


def use() -> Use:
    """Two parts: the first table had no row, the second had one."""
    tables: list[Any] = [Counted() for _ in range(2)]
    one: Any = Counted()
    return Use(
        one,
        LookupMeter("socketmap", "m"),
        0,
        (Part(tables[0], absent=True), Part(tables[1], absent=False)),
    )


def test_counted() -> None:
    """A remembered reply counts as a lookup, and as a hit of every table it was made of."""
    cache, counts = ReplyCache(), use()
    cache.remember(b"request", b"reply", 10.0, counts)
    found = cache.find(b"request", 5.0)
    assert found is not None
    assert found[0] == b"reply"
    cache.count(b"request", found, 0.000007)
    assert counts.meter.results == [1, 0, 0, 0]
    assert (counts.meter.from_cache.counts[1], counts.meter.from_cache.total) == (1, 0.000007)
    assert counts.asked.avoided == 2
    assert [(part.table.hits, part.table.negative_hits) for part in counts.parts] == [
        (0, 1),
        (1, 0),
    ]


def test_never_outlives_its_parts() -> None:
    """A reply is good until its first part is no longer fresh."""
    cache, counts = ReplyCache(), use()
    cache.remember(b"request", b"reply", 10.0, counts)
    assert cache.find(b"request", 10.0) is None


def test_unknown() -> None:
    """Bytes never seen are not answered."""
    assert ReplyCache().find(b"request", 0.0) is None


def test_long_ones_are_not_kept() -> None:
    """Unusually long requests and replies are not remembered."""
    cache = ReplyCache()
    cache.remember(b"x" * (REQUEST_LIMIT + 1), b"reply", 10.0, use())
    cache.remember(b"x", b"x" * (REPLY_LIMIT + 1), 10.0, use())
    assert len(cache) == 0


def test_bounded() -> None:
    """At most two generations are kept, and dropped ones are freed while new ones come."""
    cache, counts = ReplyCache(generation=10), use()
    for number in range(1000):
        cache.remember(b"%d" % number, b"reply", 10.0, counts)
        assert len(cache) <= 20
    assert sum(len(dropped) for dropped in cache._dropped) <= 10


def test_what_is_asked_stays() -> None:
    """A reply that is asked for now and then survives any number of others."""
    cache, counts = ReplyCache(generation=10), use()
    cache.remember(b"hot", b"reply", 10.0, counts)
    for number in range(1000):
        cache.remember(b"%d" % number, b"reply", 10.0, counts)
        if number % 5 == 0:
            found = cache.find(b"hot", 0.0)
            assert found is not None
            cache.count(b"hot", found, 0.0)
    assert cache.find(b"0", 0.0) is None


def test_forget() -> None:
    """Forgetting leaves nothing to find, and frees what was kept while new replies come."""
    cache, counts = ReplyCache(generation=10), use()
    for number in range(15):
        cache.remember(b"%d" % number, b"reply", 10.0, counts)
    cache.forget()
    assert len(cache) == 0
    assert cache.find(b"14", 0.0) is None
    for number in range(10):
        cache.remember(b"%d" % number, b"reply", 10.0, counts)
    assert sum(len(dropped) for dropped in cache._dropped) == 0


def test_forgetting_nothing_keeps_nothing() -> None:
    """Flushes without lookups between them leave nothing behind."""
    cache = ReplyCache()
    for number in range(100):
        cache.forget()
        if number % 10 == 0:
            cache.remember(b"request", b"reply", 10.0, use())
    assert len(cache._dropped) <= 10
