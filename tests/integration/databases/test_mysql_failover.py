"""Hosts that crash, freeze, refuse or are cut off, and come back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from mailmapd.databases.mysql.database import MysqlDatabase
from mailmapd.databases.settings import MysqlSettings
from mailmapd.errors import DatabaseError, DatabaseOverloaded, DatabaseUnavailable
from mailmapd.model import ResultSet
from support.mariadb import MariaDB
from support.mysql_lookups import (
    DBNAME,
    PASSWORD,
    USER,
    Connect,
    Record,
    mailbox,
    settings_for,
    statement,
)
from support.polling import until

USER_ROW = ((b"example.com/user/",),)
MakeServer = Callable[..., MariaDB]


def label(server: MariaDB) -> str:
    return f"unix:{server.socket}"


async def at_once(database: MysqlDatabase) -> None:
    """Make a lookup that must end in the next turn of the event loop."""
    results: list[ResultSet | DatabaseError] = []
    database.submit(statement("SELECT 1"), results.append)
    await asyncio.sleep(0)
    assert len(results) == 1
    if isinstance(results[0], DatabaseError):
        raise results[0]


async def in_thread(function: Callable[[], None]) -> None:
    """Let the loop run while a server is started or stopped."""
    await asyncio.get_running_loop().run_in_executor(None, function)


class Load:
    """Lookups without pause; every answer that comes must be the right one.

    `failures` are the errors, with their times.
    """

    def __init__(self, database: MysqlDatabase, workers: int = 20) -> None:
        self.answered = 0
        self.failures: list[tuple[float, DatabaseError]] = []
        self._database = database
        self._stopping = False
        self._tasks = [asyncio.create_task(self._work(number)) for number in range(workers)]

    async def _work(self, number: int) -> None:
        while not self._stopping:
            key = b"user@example.com" if number % 2 else b"unknown@example.com"
            try:
                rows = (await self._database.fetch(mailbox(key))).rows
            except (DatabaseUnavailable, DatabaseOverloaded) as error:
                self.failures.append((time.monotonic(), error))
                await asyncio.sleep(0.01)
            else:
                assert rows == (USER_ROW if number % 2 else ())
                self.answered += 1

    async def more(self, count: int = 200) -> None:
        """Wait for further answers."""
        wanted = self.answered + count
        await until(lambda: self.answered >= wanted, "no further answers")

    async def stop(self) -> None:
        """End the load; fail if any answer was wrong."""
        self._stopping = True
        await asyncio.gather(*self._tasks)


async def test_restart_under_load(
    make_lookup_server: MakeServer, connect: Connect, record: Record
) -> None:
    """A killed and restarted server costs unavailable lookups while it is away, and none after it is back."""
    server = make_lookup_server()
    database = connect(settings_for(server))
    load = Load(database)
    await load.more()
    server.kill()
    await until(lambda: len(load.failures) > 20)
    await in_thread(server.start)
    await until(lambda: database.status()[0].up)
    back = time.monotonic()
    await load.more(500)
    await load.stop()
    assert [error for when, error in load.failures if when > back] == []
    assert record.states == [(label(server), False), (label(server), True)]


async def test_restart_while_idle(
    make_lookup_server: MakeServer, connect: Connect, record: Record
) -> None:
    """A restart between two lookups is not noticed."""
    server = make_lookup_server()
    database = connect(settings_for(server))
    await asyncio.gather(*[database.fetch(mailbox(b"user@example.com")) for _ in range(50)])
    server.restart()
    results = await asyncio.gather(
        *[database.fetch(mailbox(b"user@example.com")) for _ in range(50)]
    )
    assert {result.rows for result in results} == {USER_ROW}
    assert {outcome for _, outcome in record.queries} == {"ok"}


async def test_fails_at_once_while_down(make_lookup_server: MakeServer, connect: Connect) -> None:
    """While the only host is down, lookups fail without waiting, with the reason."""
    server = make_lookup_server()
    database = connect(settings_for(server), probe_interval=60.0)
    await database.fetch(statement("SELECT 1"))
    server.kill()
    await until(lambda: database.status()[0].idle == 0)
    with pytest.raises(DatabaseUnavailable, match="Connection refused"):
        await database.fetch(statement("SELECT 1"))
    with pytest.raises(
        DatabaseUnavailable, match=f"no host answers: {label(server)}: cannot connect"
    ):
        await at_once(database)


async def test_failover(make_lookup_server: MakeServer, connect: Connect, record: Record) -> None:
    """When the first host is killed under load, the second takes over without a failed lookup.

    When it is back, it is asked again.
    """
    first, second = make_lookup_server(), make_lookup_server(tcp=True)
    database = connect(settings_for(first, hosts=(label(first), f"127.0.0.1:{second.port}")))
    load = Load(database)
    await load.more()
    first.kill()
    await load.more()
    assert {host for host, _ in record.queries[-50:]} == {f"127.0.0.1:{second.port}"}
    await in_thread(first.start)
    await until(lambda: database.status()[0].up)
    await load.more()
    await until(lambda: not second.connections(USER), "connections to the stand-in stay open")
    await load.stop()
    assert load.failures == []
    assert {host for host, _ in record.queries[-50:]} == {label(first)}


async def test_order_of_hosts(
    make_lookup_server: MakeServer, connect: Connect, record: Record
) -> None:
    """UNIX sockets come first, the others at random, and hosts marked as replicas before all."""
    local, remote = make_lookup_server(tcp=True), make_lookup_server(tcp=True)
    hosts = (f"127.0.0.1:{local.port}", f"127.0.0.1:{remote.port}")

    async def asked(settings: MysqlSettings, seed: int = 0) -> set[str]:
        record.queries.clear()
        database = connect(settings, rng=random.Random(seed))
        await asyncio.gather(*[database.fetch(mailbox(b"user@example.com")) for _ in range(40)])
        return {host for host, _ in record.queries}

    assert await asked(settings_for(local, hosts=(*hosts, label(local)))) == {label(local)}
    assert await asked(settings_for(local, hosts=hosts)) == set(hosts)
    assert await asked(settings_for(local, hosts=(*hosts, label(local)), replicas=(hosts[1],))) == {
        hosts[1]
    }


async def test_host_that_refuses_queries(
    make_lookup_server: MakeServer, connect: Connect, record: Record
) -> None:
    """A first host that lets us in and refuses every query (a Galera node out of its cluster) is
    left for the next without a failed lookup.

    It is asked again when it takes queries.
    """
    first, second = make_lookup_server(), make_lookup_server(tcp=True)
    desynced = (
        "CREATE PROCEDURE ready() SIGNAL SQLSTATE '08S01' SET MYSQL_ERRNO = 1047, "
        "MESSAGE_TEXT = 'WSREP has not yet prepared node'"
    )
    first.run_sql(desynced, database=DBNAME)
    second.run_sql("CREATE PROCEDURE ready() SELECT 'yes'", database=DBNAME)
    hosts = (label(first), f"127.0.0.1:{second.port}")
    database = connect(settings_for(first, hosts=hosts), probe_interval=0.5)
    for _ in range(3):
        results = await asyncio.gather(
            *[database.fetch(statement("CALL ready()")) for _ in range(40)]
        )
        assert {result.rows for result in results} == {((b"yes",),)}
        await until(lambda: (label(first), True) in record.states)
        record.states.clear()
    first.run_sql("DROP PROCEDURE ready; CREATE PROCEDURE ready() SELECT 'again'", database=DBNAME)
    await until(lambda: database.status()[0].up)
    assert (await database.fetch(statement("CALL ready()"))).rows == ((b"again",),)
    await database.close()
    alone = connect(settings_for(first))
    first.run_sql(f"DROP PROCEDURE ready; {desynced}", database=DBNAME)
    with pytest.raises(
        DatabaseUnavailable,
        match=r"no host answers: .*the server does not take queries yet \(error 1047\)",
    ):
        await alone.fetch(statement("CALL ready()"))


async def test_frozen(make_lookup_server: MakeServer, connect: Connect, record: Record) -> None:
    """A frozen server fails lookups at their deadline, then at once.

    Thawed, it answers and finds no pile of old queries.
    """
    server = make_lookup_server()
    database = connect(
        settings_for(server, query_timeout=0.3, queue_timeout=0.3, connect_timeout=0.3)
    )
    load = Load(database)
    await load.more()
    server.pause()
    await until(lambda: not database.status()[0].up)
    with pytest.raises(DatabaseUnavailable, match="no host answers"):
        await at_once(database)
    server.resume()
    await until(lambda: database.status()[0].up)
    await load.more(500)
    await load.stop()
    await until(lambda: len(server.connections(USER)) <= 8, "old connections pile up")
    assert record.states[0] == (label(server), False)
    assert record.states[-1] == (label(server), True)


async def test_frozen_first_host(make_lookup_server: MakeServer, connect: Connect) -> None:
    """A first host that accepts and never answers is passed over by the very first lookup."""
    frozen, healthy = make_lookup_server(), make_lookup_server(tcp=True)
    frozen.pause()
    database = connect(
        settings_for(
            frozen, hosts=(label(frozen), f"127.0.0.1:{healthy.port}"), connect_timeout=2.0
        )
    )
    assert (await database.fetch(mailbox(b"user@example.com"))).rows == USER_ROW
    await until(lambda: not database.status()[0].up)


async def test_blackhole(connect: Connect, record: Record) -> None:
    """A listener that accepts and never answers is unavailable after connect_timeout."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(swallow, "127.0.0.1", 0) as listener:
        host = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        database = connect(MysqlSettings(hosts=(host,), connect_timeout=0.2))
        with pytest.raises(DatabaseUnavailable, match="connect_timeout"):
            await database.fetch(statement("SELECT 1"))
        assert record.states == [(host, False)]
        await database.close()


class Proxy:
    """Forwards to a server's port; while `blocked`, bytes pile up in the kernel as behind a dead link."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen; return the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def block(self, blocked: bool) -> None:
        """Hold everything back, or let it go on."""
        if blocked:
            self._open.clear()
        else:
            self._open.set()

    async def stop(self) -> None:
        """End every connection."""
        self._server.close()
        for _ in range(5):
            await asyncio.sleep(0)  # what was being accepted arrives
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._open.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
            finally:
                await self._end(far_writer)
        finally:
            await self._end(writer)

    async def _end(self, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                await self._open.wait()
                target.write(data)
                await target.drain()
        target.close()


async def test_cut_off(lookup_server: MariaDB, connect: Connect) -> None:
    """A link that swallows everything fails lookups within their deadline, and serves again when it is mended."""
    proxy = Proxy(lookup_server.port)
    host = f"127.0.0.1:{await proxy.start()}"
    database = connect(
        settings_for(
            lookup_server, hosts=(host,), query_timeout=0.3, queue_timeout=0.3, connect_timeout=0.3
        )
    )
    load = Load(database)
    await load.more()
    proxy.block(True)
    await until(lambda: not database.status()[0].up)
    failed = len(load.failures)
    await until(lambda: len(load.failures) > failed + 50)
    proxy.block(False)
    await load.more()
    await load.stop()
    await database.close()
    await proxy.stop()


async def test_login_refused_under_load(make_lookup_server: MakeServer, connect: Connect) -> None:
    """A password that is changed and changed back costs unavailable lookups only in between."""
    server = make_lookup_server()
    database = connect(settings_for(server))
    load = Load(database)
    await load.more()
    server.run_sql(f"ALTER USER {USER}@localhost IDENTIFIED BY 'other'")
    server.kill_connections(USER)
    await until(lambda: len(load.failures) > 20)
    assert "Access denied" in str(load.failures[-1][1])
    assert PASSWORD not in str(load.failures[-1][1])
    server.run_sql(f"ALTER USER {USER}@localhost IDENTIFIED BY %s", PASSWORD)
    await until(lambda: database.status()[0].up)
    failed = len(load.failures)
    await load.more()
    await load.stop()
    assert len(load.failures) == failed


async def test_kills_under_load(
    make_lookup_server: MakeServer, connect: Connect, record: Record
) -> None:
    """Connections that are killed again and again under load cost next to nothing, and never a wrong answer."""
    server = make_lookup_server()
    database = connect(settings_for(server))
    load = Load(database)
    for _ in range(3):
        await load.more(100)
        await in_thread(lambda: server.kill_connections(USER))
    await load.more()
    await load.stop()
    assert record.states == []
    assert len(load.failures) < 10
