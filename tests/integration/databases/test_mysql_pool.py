"""The connection budget, the queue, the deadlines, and connections that die while nobody looks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from mailmapd.databases.mysql.database import MysqlDatabase
from mailmapd.databases.mysql.pool import LIFETIME
from mailmapd.errors import DatabaseOverloaded, DatabaseUnavailable
from support.clock import FakeClock
from support.mariadb import MariaDB
from support.mysql_lookups import DBNAME, USER, Connect, Record, mailbox, settings_for, statement
from support.polling import until

USER_ROW = ((b"example.com/user/",),)


async def test_budget(lookup_server: MariaDB, connect: Connect) -> None:
    """However many lookups come at once, no more than pool_size connections are opened, and each
    lookup gets its own answer.
    """
    database = connect(settings_for(lookup_server, pool_size=3))
    results = await asyncio.gather(
        *[
            database.fetch(statement("SELECT '%s', CONNECTION_ID()", b"%d" % number))
            for number in range(500)
        ]
    )
    assert [result.rows[0][0] for result in results] == [b"%d" % number for number in range(500)]
    assert len({result.rows[0][1] for result in results}) <= 3
    assert database.status()[0].idle == 3


async def test_one_at_a_time(lookup_server: MariaDB, connect: Connect) -> None:
    """Lookups one after the other use one connection."""
    database = connect(settings_for(lookup_server))
    seen = {(await database.fetch(statement("SELECT CONNECTION_ID()"))).rows for _ in range(20)}
    assert len(seen) == 1


async def test_first_come(lookup_server: MariaDB, connect: Connect) -> None:
    """The queue is served in the order of arrival."""
    database = connect(settings_for(lookup_server, pool_size=1))
    order: list[int] = []

    async def lookup(number: int) -> None:
        await database.fetch(statement("SELECT 1"))
        order.append(number)

    await asyncio.gather(*[lookup(number) for number in range(50)])
    assert order == list(range(50))


async def test_queue_limit(lookup_server: MariaDB, connect: Connect, record: Record) -> None:
    """A lookup that finds the queue full fails at once; those in the queue are served."""
    database = connect(settings_for(lookup_server, pool_size=1, max_queued=2))
    waiting = [asyncio.create_task(database.fetch(statement("SELECT 1"))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(DatabaseOverloaded, match="max_queued"):
        await database.fetch(statement("SELECT 1"))
    assert record.queries == [("", "overloaded")]
    await asyncio.gather(*waiting)


async def test_queue_timeout(lookup_server: MariaDB, connect: Connect, record: Record) -> None:
    """A lookup that waits beyond queue_timeout fails as overloaded, while the one that runs goes on."""
    database = connect(settings_for(lookup_server, pool_size=1, queue_timeout=0.1))
    running = asyncio.create_task(database.fetch(statement("SELECT SLEEP(0.5)")))
    await until(lambda: database.status()[0].busy == 1)
    with pytest.raises(DatabaseOverloaded, match="queue_timeout"):
        await database.fetch(statement("SELECT 1"))
    assert (await running).rows == ((b"0",),)
    assert [outcome for _, outcome in record.queries] == ["overloaded", "ok"]


async def test_query_timeout(lookup_server: MariaDB, connect: Connect, record: Record) -> None:
    """A query beyond its deadline fails as a timeout, does not go on in the server, and leaves the
    host up for the others.
    """
    database = connect(settings_for(lookup_server, query_timeout=0.2, pool_size=2))
    slow = asyncio.create_task(
        database.fetch(
            statement("SELECT COUNT(*) FROM seq_1_to_1000000 a, seq_1_to_1000000 b", table="slow")
        )
    )
    await until(lambda: database.status()[0].busy == 1)
    while not slow.done():
        assert (await database.fetch(mailbox(b"user@example.com"))).rows == USER_ROW
    with pytest.raises(DatabaseUnavailable, match=r"table slow: .*(query_timeout|took too long)"):
        await slow
    assert "timeout" in [outcome for _, outcome in record.queries]
    assert record.states == []
    query = (
        "SELECT COUNT(*) FROM information_schema.processlist WHERE user = %s AND info IS NOT NULL"
    )
    await until(
        lambda: lookup_server.run_sql(query, USER) == [(0,)], "the query still runs in the server"
    )


async def test_loop_held_up(lookup_server: MariaDB, connect: Connect, record: Record) -> None:
    """A reply that came while our own process was held up beyond query_timeout still counts."""
    database = connect(settings_for(lookup_server, query_timeout=0.3, queue_timeout=0.3))
    await database.fetch(statement("SELECT 1"))
    lookup = asyncio.create_task(database.fetch(statement("SELECT SLEEP(0.1), 'done'")))
    await until(lambda: database.status()[0].busy == 1)
    time.sleep(0.6)  # noqa: ASYNC251  # the point of this test
    assert (await lookup).rows == ((b"0", b"done"),)
    assert {outcome for _, outcome in record.queries} == {"ok"}


async def test_killed_idle_connection(
    lookup_server: MariaDB, connect: Connect, record: Record
) -> None:
    """A pooled connection that the server has killed is replaced without a failed lookup."""
    database = connect(settings_for(lookup_server))
    for _ in range(5):
        assert (await database.fetch(mailbox(b"user@example.com"))).rows == USER_ROW
        lookup_server.kill_connections(USER)
    assert {outcome for _, outcome in record.queries} == {"ok"}
    assert record.states == []


async def test_killed_in_flight(lookup_server: MariaDB, connect: Connect, record: Record) -> None:
    """A query whose connection is killed under it is run again on a fresh one."""
    database = connect(settings_for(lookup_server, pool_size=1))
    await database.fetch(statement("SELECT 1"))
    slow = asyncio.create_task(database.fetch(statement("SELECT SLEEP(0.3), 'done'")))
    query = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = %s AND info LIKE 'SELECT SLEEP%%'"
    await until(lambda: lookup_server.run_sql(query, USER) == [(1,)])
    lookup_server.kill_connections(USER)
    assert (await slow).rows == ((b"0", b"done"),)
    assert record.states == []


async def test_query_that_kills(lookup_server: MariaDB, connect: Connect) -> None:
    """A query that costs its connection every time is not tried forever."""
    database = connect(settings_for(lookup_server, read_only=False))
    with pytest.raises(DatabaseUnavailable):
        await database.fetch(statement("KILL CONNECTION_ID()"))
    assert (await database.fetch(mailbox(b"user@example.com"))).rows == USER_ROW


async def test_wait_timeout(
    make_lookup_server: Callable[..., MariaDB], connect: Connect, record: Record
) -> None:
    """Connections that the server ends for idleness are replaced without a failed lookup."""
    server = make_lookup_server(settings=["--wait-timeout=1"])
    database = connect(settings_for(server))
    for _ in range(2):
        await asyncio.gather(*[database.fetch(mailbox(b"user@example.com")) for _ in range(50)])
        await until(
            lambda: database.status()[0].idle == 0, "the server never ended its idle connections"
        )
    assert (await database.fetch(mailbox(b"user@example.com"))).rows == USER_ROW
    assert {outcome for _, outcome in record.queries} == {"ok"}
    assert record.states == []


async def test_idle_interval(lookup_server: MariaDB, connect: Connect) -> None:
    """A connection that nobody used for idle_interval is closed."""
    clock = FakeClock()
    settings = settings_for(lookup_server, idle_interval=60.0)
    database = connect(settings, clock=clock)
    await asyncio.gather(*[database.fetch(statement("SELECT 1")) for _ in range(100)])
    idle = settings.pool_size
    assert idle > 1
    await until(lambda: database.status()[0].idle == idle)
    clock.now = 59.0
    database.housekeep()
    assert database.status()[0].idle == idle
    await database.fetch(statement("SELECT 1"))
    clock.now = 60.0
    database.housekeep()
    assert database.status()[0].idle == 1
    await until(lambda: len(lookup_server.connections(USER)) == 1)


async def test_name_is_followed(
    make_lookup_server: Callable[..., MariaDB], connect: Connect, record: Record
) -> None:
    """Connections to a host given by name are replaced from time to time, in turn and without a failed lookup.

    Those to an address stay.
    """
    server = make_lookup_server(tcp=True)
    for host, stays in (
        (f"127.0.0.1:{server.port}", True),
        (f"127.1:{server.port}", False),
    ):  # 127.1 is looked up as names are
        clock = FakeClock()
        database = connect(settings_for(server, hosts=(host,), pool_size=3), clock=clock)
        await asyncio.gather(*[database.fetch(statement("SELECT SLEEP(0.05)")) for _ in range(30)])
        before = await connection_ids(database)
        clock.now = LIFETIME + 1
        await asyncio.gather(*[database.fetch(statement("SELECT SLEEP(0.05)")) for _ in range(30)])
        after = await connection_ids(database)
        assert (before == after) if stays else not before & after
        assert len(before) == len(after) == 3
        await database.close()
    assert {outcome for _, outcome in record.queries} == {"ok"}


async def connection_ids(database: MysqlDatabase) -> set[bytes | None]:
    """Return the server's numbers of the connections in use."""
    results = await asyncio.gather(
        *[database.fetch(statement("SELECT CONNECTION_ID(), SLEEP(0.05)")) for _ in range(30)]
    )
    return {result.rows[0][0] for result in results}


async def test_close(lookup_server: MariaDB, connect: Connect) -> None:
    """Closing fails what runs and waits, ends every connection, and may be repeated."""
    database = connect(settings_for(lookup_server, pool_size=2))
    await database.fetch(statement("SELECT 1"))
    lookups = [asyncio.create_task(database.fetch(statement("SELECT SLEEP(20)"))) for _ in range(4)]
    await until(lambda: database.status()[0].busy == 2)
    await database.close()
    for lookup in lookups:
        with pytest.raises(DatabaseUnavailable, match="closed"):
            await lookup
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await database.fetch(statement("SELECT 1"))
    await database.close()
    for identity in lookup_server.connections(USER):
        lookup_server.run_sql(f"KILL QUERY {identity}")
    await until(lambda: lookup_server.connections(USER) == [])


async def test_close_while_connecting(connect: Connect, lookup_server: MariaDB) -> None:
    """Closing while the first connection is on its way leaves nothing behind."""
    database = connect(settings_for(lookup_server))
    lookup = asyncio.create_task(database.fetch(statement("SELECT 1")))
    await asyncio.sleep(0)
    await database.close()
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await lookup
    await until(lambda: lookup_server.connections(USER) == [])


async def test_locked_table(lookup_server: MariaDB, connect: Connect, record: Record) -> None:
    """A locked table fails its own lookups at their deadline; other tables are answered."""
    lookup_server.run_sql("CREATE OR REPLACE TABLE locked AS SELECT 1 AS one", database=DBNAME)
    holder = lookup_server.connect(DBNAME)
    holder.query("LOCK TABLES locked WRITE")
    try:
        database = connect(settings_for(lookup_server, query_timeout=0.2, pool_size=2))
        stuck = asyncio.create_task(
            database.fetch(statement("SELECT one FROM locked", table="locked"))
        )
        await until(lambda: database.status()[0].busy == 1)
        while not stuck.done():
            assert (await database.fetch(mailbox(b"user@example.com"))).rows == USER_ROW
        with pytest.raises(DatabaseUnavailable):
            await stuck
        assert record.states == []
    finally:
        holder.close()
