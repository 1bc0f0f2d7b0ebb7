"""Another origin than a query: whatever has its methods stands behind, or in front of, a table's answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import pytest

from mailmapd.cache import ABSENCE, TableCache
from mailmapd.cache.table_cache import KEPT_KEY
from mailmapd.config.schema import CacheSection, Seconds
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.origin import POISON_KEYS, Done, Origin, QueryOrigin
from mailmapd.engine.outcome import Failure, Known, Outcome, Source
from mailmapd.engine.table import Table
from mailmapd.errors import DataError
from mailmapd.template.mysql_table import MysqlTable
from support.clock import FakeClock
from support.known import known
from support.memory_database import MemoryDatabase, values_of

DEFINITION = PostfixDefinition(MysqlTable.compile("t", b"SELECT a FROM b WHERE c = '%s'"))
SETTINGS = CacheSection(ttl=Seconds(100.0), jitter=0.0, refresh_ahead=0.0)


class Shelf:
    """An origin in front of another one: it knows some answers, and asks the other for the rest."""

    def __init__(self, behind: Origin) -> None:
        self.definition, self.database = behind.definition, behind.database
        self.patience = behind.patience
        self.known: dict[bytes, Known] = {}
        self.waiting: list[tuple[bytes, Done]] = []
        self._behind = behind

    @property
    def schema_error(self) -> str:
        """Return what the other one says."""
        return self._behind.schema_error

    def fetch(self, sql_key: bytes, done: Done) -> None:
        """Answer when `turn` is called, or ask the other one."""
        if sql_key in self.known:
            self.waiting.append((sql_key, done))
        else:
            self._behind.fetch(sql_key, done)

    def renew(self, sql_key: bytes, done: Callable[[Known], None]) -> None:
        """Ask the other one."""
        self._behind.renew(sql_key, done)

    def turn(self) -> None:
        """Give the answers that are due."""
        waiting, self.waiting = self.waiting, []
        for sql_key, done in waiting:
            done(self.known[sql_key])

    def refusal(self, sql_key: bytes, now: float) -> Failure | None:
        """Return what the other one says."""
        return self._behind.refusal(sql_key, now)

    def away(self) -> bool:
        """Return what the other one says."""
        return self._behind.away()

    def lose_patience(self) -> None:
        """Tell the other one."""
        self._behind.lose_patience()

    def spared(self, now: float) -> bool:
        """Return what the other one says."""
        return self._behind.spared(now)

    def refused(self) -> Iterable[bytes]:
        """Return what the other one says."""
        return self._behind.refused()

    def forget(self, sql_keys: Iterable[bytes]) -> None:
        """Forget here and there."""
        keys = list(sql_keys)
        for key in keys:
            self.known.pop(key, None)
        self._behind.forget(keys)

    def forget_all(self) -> None:
        """Forget here and there."""
        self.known.clear()
        self._behind.forget_all()


class Bench:
    """A table with a shelf in front of its query."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.database = MemoryDatabase("mail", {(b"k",): [(b"from the database",)]})
        self.shelf = Shelf(QueryOrigin("t", DEFINITION, self.database, self.clock))
        self.table = Table("t", self.shelf, TableCache(SETTINGS), self.clock)


async def test_an_origin_in_front_answers_first() -> None:
    """What the origin in front knows is answered and remembered without the database; the rest is asked for."""
    bench = Bench()
    bench.shelf.known[b"shelved"] = b"from the shelf"
    outcomes: list[Outcome] = []
    assert bench.table.ask(b"shelved", outcomes.append) is None
    bench.shelf.turn()
    assert outcomes == [Outcome(b"from the shelf", Source.DATABASE)]
    assert known(bench.table, b"shelved", 0.0) == b"from the shelf"
    assert (await bench.table.get(b"k")).known == b"from the database"
    assert (await bench.table.get(b"unknown")).known is ABSENCE
    assert [values_of(asked) for asked in bench.database.asked] == [(b"k",), (b"unknown",)]


async def test_an_invalidation_reaches_the_origin() -> None:
    """What an origin remembers is forgotten with the table's own entries, and what is under way is not kept."""
    bench = Bench()
    bench.shelf.known[b"k"] = b"old"
    outcomes: list[Outcome] = []
    bench.table.ask(b"k", outcomes.append)
    waiting = bench.shelf.waiting
    bench.table.apply(Invalidation("t", frozenset({b"k"})))
    bench.shelf.waiting = []
    for _, done in waiting:
        done(b"old")
    assert outcomes == [Outcome(b"old", Source.DATABASE)]
    assert known(bench.table, b"k", 0.0) is None
    assert (await bench.table.get(b"k")).known == b"from the database"


async def test_a_failure_that_was_touched_under_way_is_asked_again() -> None:
    """A key that failed by its own fault is asked anew after an invalidation, even of a query under way."""
    bench = Bench()
    bench.database.failure = DataError("cannot be evaluated")
    bench.database.hold()
    asking = asyncio.ensure_future(bench.table.get(b"k"))
    await asyncio.sleep(0)
    bench.table.apply(Invalidation("t", frozenset({b"k"})))
    bench.database.release()
    assert (await asking).known == Failure("cannot be evaluated", lasts=True)
    bench.database.failure = None
    assert (await bench.table.get(b"k")).known == b"from the database"


async def test_failures_take_little_memory() -> None:
    """Keys that fail by their own fault are remembered up to a number, and those that are too long not at all."""
    bench = Bench()
    bench.database.failure = DataError("cannot be evaluated")
    for key in [b"%d" % number for number in range(POISON_KEYS + 10)] + [b"k" * (KEPT_KEY + 1)]:
        assert isinstance((await bench.table.get(key)).known, Failure)
    refused = list(bench.table.origin.refused())
    assert len(refused) == POISON_KEYS
    assert max(map(len, refused)) < KEPT_KEY


async def test_an_answer_that_is_not_of_this_moment() -> None:
    """It is kept for what is left of its time, and known to be as old as it is; one whose time is over stands in."""
    bench = Bench()
    bench.clock.now = 100_000.0

    class Watched:
        def lifetime(self, sql_key: bytes, absent: bool) -> float:
            del sql_key, absent
            return 86_400.0

    bench.table.watch = Watched()
    bench.clock.now += 50_000.0
    bench.table.keep(b"k", b"value", 80_000.0)
    entry = bench.table.cache.peek(b"k")
    assert entry is not None
    assert bench.clock.now + 70_000.0 < entry[1] <= bench.clock.now + 80_000.0
    known_for = bench.table.known_for(b"k", bench.clock.now)
    assert known_for == pytest.approx(6400.0, abs=0.1)
    bench.table.keep(b"past", b"value", -7.0)
    past = bench.table.cache.peek(b"past")
    assert past is not None
    assert past[1] == pytest.approx(bench.clock.now - 7.0, abs=0.1)
    assert bench.table.cache.stale(b"past", bench.clock.now) == b"value"
