from __future__ import annotations

import asyncio

import pytest

from mailmapd.cache import ABSENCE, TableCache
from mailmapd.config.schema import CacheSection, Seconds
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.origin import POISON_MEMORY, SCHEMA_RETRY, STALE_PATIENCE, QueryOrigin
from mailmapd.engine.outcome import Failure, Outcome, Source
from mailmapd.engine.table import REFRESHES, Table
from mailmapd.errors import DEFECT, DatabaseUnavailable, DataError, SchemaError
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.statement import Statement
from support.clock import FakeClock
from support.known import known
from support.memory_database import MemoryDatabase, Rows, Values


class Bench:
    """A table over a memory database that knows one user."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.rows: dict[Values, Rows] = {(b"user@example.com",): [(b"example.com/user/",)]}
        self.database = MemoryDatabase("mail", self.rows)
        settings = CacheSection(
            ttl=Seconds(100.0),
            negative_ttl=Seconds(10.0),
            stale_ttl=Seconds(1000.0),
            negative_stale_ttl=Seconds(1000.0),
            refresh_ahead=0.2,
            jitter=0.0,
        )
        definition = PostfixDefinition(
            MysqlTable.compile("mailbox", b"SELECT maildir FROM mailbox WHERE username = '%s'")
        )
        self.table = Table(
            "mailbox",
            QueryOrigin("mailbox", definition, self.database, self.clock),
            TableCache(settings),
            self.clock,
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


KEY = b"user@example.com"
ROW = b"example.com/user/"


async def test_found_and_kept(bench: Bench) -> None:
    """A row is fetched once and known from then on."""
    assert known(bench.table, KEY, 0.0) is None
    assert await bench.table.get(KEY) == Outcome(ROW, Source.DATABASE)
    assert known(bench.table, KEY, 0.0) == ROW
    assert len(bench.database.asked) == 1
    assert (bench.table.misses, bench.table.hits) == (1, 1)


async def test_absent_and_kept(bench: Bench) -> None:
    """An empty result is a definite absence, and known as such."""
    assert await bench.table.get(b"none@example.com") == Outcome(ABSENCE, Source.DATABASE)
    assert known(bench.table, b"none@example.com", 0.0) is ABSENCE
    assert bench.table.negative_hits == 1


async def test_fetched_ahead(bench: Bench) -> None:
    """A key is fetched before anybody asks for it, and not while it is known or on its way."""
    landed: list[Outcome] = []
    assert bench.table.fetch_ahead(KEY, landed.append)
    assert not bench.table.fetch_ahead(KEY, landed.append)
    assert await bench.table.get(KEY) == Outcome(ROW, Source.DATABASE)
    assert not bench.table.fetch_ahead(KEY, landed.append)
    assert landed == [Outcome(ROW, Source.DATABASE)]
    assert len(bench.database.asked) == 1


async def test_single_flight(bench: Bench) -> None:
    """A thousand equal misses at once send one query."""
    bench.database.hold()
    asking = [asyncio.ensure_future(bench.table.get(KEY)) for _ in range(1000)]
    await asyncio.sleep(0)
    bench.database.release()
    assert {outcome.known for outcome in await asyncio.gather(*asking)} == {ROW}
    assert len(bench.database.asked) == 1
    assert (bench.table.misses, bench.table.coalesced) == (1, 999)


async def test_failure_is_never_an_absence(bench: Bench) -> None:
    """A database that cannot be reached is a failure, and nothing is kept of it."""
    bench.database.failure = DatabaseUnavailable("db1: connection refused", host="db1")
    assert (await bench.table.get(KEY)).known == Failure("db1: connection refused")
    bench.database.failure = None
    assert (await bench.table.get(KEY)).known == ROW


async def test_stale_bridges_an_outage(bench: Bench) -> None:
    """While the database is away, an expired row is still the answer, and an expired absence too."""
    await bench.table.get(KEY)
    await bench.table.get(b"none@example.com")
    bench.clock.now = 200.0
    bench.database.failure = DatabaseUnavailable("gone")
    assert await bench.table.get(KEY) == Outcome(ROW, Source.STALE)
    assert await bench.table.get(b"none@example.com") == Outcome(ABSENCE, Source.STALE)
    assert bench.table.stale == 2


async def test_stale_has_an_end(bench: Bench) -> None:
    """After the stale time, an outage is a failure."""
    await bench.table.get(KEY)
    bench.clock.now = 1101.0
    bench.database.failure = DatabaseUnavailable("gone")
    assert (await bench.table.get(KEY)).known == Failure("gone")


async def test_slow_database_does_not_hold_up_stale(bench: Bench) -> None:
    """With a stale answer at hand, a database that hangs is waited for only briefly, and its late answer is kept."""
    await bench.table.get(KEY)
    bench.clock.now = 200.0
    bench.rows[KEY,] = [(b"moved/",)]
    bench.database.hold()
    assert await bench.table.get(KEY) == Outcome(ROW, Source.STALE)
    bench.database.release()
    await asyncio.sleep(0.01)
    assert known(bench.table, KEY, 200.0) == b"moved/"


async def test_silent_database_is_waited_for_once(bench: Bench) -> None:
    """While a database keeps a table waiting, further stale answers do not wait at all.

    Once it answers, it is asked first again.
    """
    others = [b"user%d@example.com" % number for number in range(20)]
    for key in (KEY, *others):
        await bench.table.get(key)
    bench.clock.now = 200.0
    bench.database.hold()
    assert (await bench.table.get(KEY)).source is Source.STALE
    for key in others:
        async with asyncio.timeout(STALE_PATIENCE / 2):
            assert (await bench.table.get(key)).source is Source.STALE
    bench.database.release()
    await asyncio.sleep(0.01)
    bench.clock.now = 400.0
    assert (await bench.table.get(KEY)).source is Source.DATABASE


async def test_expired_row_is_fetched_anew(bench: Bench) -> None:
    """When the database answers, an expired row is not the answer but what the database says now."""
    await bench.table.get(KEY)
    bench.clock.now = 200.0
    del bench.rows[KEY,]
    assert await bench.table.get(KEY) == Outcome(ABSENCE, Source.DATABASE)


async def test_refresh_ahead(bench: Bench) -> None:
    """A row in its refresh age is answered at once and fetched anew once in the background."""
    await bench.table.get(KEY)
    bench.rows[KEY,] = [(b"moved/",)]
    bench.database.hold()
    assert [known(bench.table, KEY, 90.0) for _ in range(5)] == [ROW] * 5
    bench.clock.now = 90.0
    bench.database.release()
    await asyncio.sleep(0.01)
    assert known(bench.table, KEY, 90.0) == b"moved/"
    assert len(bench.database.asked) == 2


async def test_failed_refresh_keeps_the_row(bench: Bench) -> None:
    """A refresh that fails changes nothing, and is not tried again at once."""
    await bench.table.get(KEY)
    bench.clock.now = 90.0
    bench.database.failure = DatabaseUnavailable("gone")
    for _ in range(5):
        assert known(bench.table, KEY, 90.0) == ROW
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(bench.database.asked) == 2


@pytest.mark.parametrize(("now", "before"), [(90.0, None), (50.0, 10.0)])
async def test_refreshes_leave_room(bench: Bench, now: float, before: float | None) -> None:
    """When many rows reach their refresh age at once, or are distrusted, a few are fetched anew at a time.

    A lookup that misses does not queue behind them.
    """
    keys = [b"user%d@example.com" % number for number in range(10 * REFRESHES)]
    for key in keys:
        bench.rows[key,] = [(key,)]
        await bench.table.get(key)
    bench.clock.now = now
    if before is not None:
        bench.table.apply(Invalidation("mailbox", before=before))
    bench.database.hold()
    bench.database.asked.clear()
    assert [known(bench.table, key, now) for key in keys] == keys
    asking = asyncio.ensure_future(bench.table.get(KEY))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(bench.database.asked) == REFRESHES + 1
    bench.database.release()
    assert (await asking).known == ROW
    await asyncio.sleep(0.01)
    known(bench.table, keys[-1], now)
    await asyncio.sleep(0)
    assert len(bench.database.asked) == REFRESHES + 2


async def test_defect_fails_one_lookup(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A defect while a query is made is a failure of that lookup; the next one for the key does not wait for it."""

    class Faulty(PostfixDefinition):
        def __init__(self, template: MysqlTable) -> None:
            super().__init__(template)
            self.statement = self._fail

        def _fail(self, sql_key: bytes) -> Statement:
            self.statement = self.template.statement
            raise KeyError(len(sql_key))

    bench.table.origin.definition = Faulty(
        MysqlTable.compile("mailbox", b"SELECT maildir FROM mailbox WHERE username = '%s'")
    )
    assert (await bench.table.get(KEY)).known == Failure(DEFECT)
    assert "a defect of mailmapd" in caplog.text
    assert (await bench.table.get(KEY)).known == ROW


async def test_poison(bench: Bench) -> None:
    """A key that the database cannot evaluate fails alone, is remembered briefly, and is asked again later."""
    bench.database.failure = DataError("db1: illegal mix of collations")
    assert (await bench.table.get(b"bad")).known == Failure("db1: illegal mix of collations")
    bench.database.failure = None
    assert (await bench.table.get(KEY)).known == ROW
    assert (await bench.table.get(b"bad")).known == Failure("db1: illegal mix of collations")
    assert len(bench.database.asked) == 2
    bench.clock.now += POISON_MEMORY
    assert (await bench.table.get(b"bad")).known is ABSENCE


async def test_schema_error(bench: Bench) -> None:
    """A query that does not fit the schema fails the table without more queries, is tried again,
    and recovers by itself.
    """
    bench.database.failure = SchemaError("db1: unknown column 'user_mail'")
    assert (await bench.table.get(KEY)).known == Failure("db1: unknown column 'user_mail'")
    assert bench.table.schema_error == "db1: unknown column 'user_mail'"
    assert (await bench.table.get(b"other")).known == Failure("db1: unknown column 'user_mail'")
    assert len(bench.database.asked) == 1
    bench.database.failure = None
    bench.clock.now += SCHEMA_RETRY
    assert (await bench.table.get(KEY)).known == ROW
    assert bench.table.schema_error == ""


async def test_flush_beats_a_query_in_flight(bench: Bench) -> None:
    """What was dropped stays dropped: a query that was on its way does not bring the old answer back."""
    bench.database.hold()
    asking = asyncio.ensure_future(bench.table.get(KEY))
    await asyncio.sleep(0)
    bench.table.apply(Invalidation("t", frozenset((KEY,))))
    bench.database.release()
    assert (await asking).known == ROW
    assert known(bench.table, KEY, 0.0) is None


async def test_clear_beats_a_query_in_flight(bench: Bench) -> None:
    """The same holds for forgetting the whole table."""
    await bench.table.get(b"none@example.com")
    bench.database.hold()
    asking = asyncio.ensure_future(bench.table.get(KEY))
    await asyncio.sleep(0)
    assert bench.table.apply(Invalidation("t"))[0] == 1
    bench.database.release()
    await asking
    assert known(bench.table, KEY, 0.0) is None


async def test_flush_beats_a_failure_in_flight(bench: Bench) -> None:
    """A key that was dropped is asked again at once, even if a query that was on its way then finds
    fault with its old row.
    """
    bench.database.hold()
    asking = asyncio.ensure_future(bench.table.get(KEY))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    bench.table.apply(Invalidation("t", frozenset((KEY,))))
    bench.database.failure = DataError("db1: illegal mix of collations")
    bench.database.release()
    assert (await asking).known == Failure("db1: illegal mix of collations")
    bench.database.failure = None
    assert (await bench.table.get(KEY)).known == ROW
