"""A host that reads a replica: what it is told of the primary, its own server may not show yet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from mailmapd.cluster import exchange, second_level
from mailmapd.model import Found
from support.fleet import SECOND_LEVEL, Host, fill, make_host
from support.followed import LOGGED, grant_replication
from support.mariadb import MariaDB, private_directory
from support.polling import until
from support.process import wait_until
from support.replication import catch_up
from support.settled import is_busy, is_settled
from support.valkey import Valkey

pytestmark = [pytest.mark.servers, pytest.mark.root]

KEY = b"a@example.com"
LAG = 0.02  # seconds
ROUNDS = 20


@pytest.fixture
def pair() -> Iterator[tuple[MariaDB, MariaDB]]:
    """A primary, and a replica that logs what it replicates."""
    with ExitStack() as stack:
        first = stack.enter_context(private_directory())
        second = stack.enter_context(private_directory())
        primary = stack.enter_context(MariaDB(first, tcp=True, settings=LOGGED))
        options = [*LOGGED, "--server-id=2", "--log-slave-updates=ON"]
        replica = stack.enter_context(MariaDB(second, settings=options))
        grant_replication(primary)
        primary.run_sql("CREATE USER copy@'127.0.0.1' IDENTIFIED BY 'copy'")
        primary.run_sql("GRANT REPLICATION SLAVE ON *.* TO copy@'127.0.0.1'")
        fill(primary)
        replica.run_sql(
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_USER='copy', MASTER_PASSWORD='copy',"
            f" MASTER_PORT={primary.port}, MASTER_USE_GTID=slave_pos; START SLAVE"
        )
        sql = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 't'"
        wait_until(lambda: replica.run_sql(sql) == primary.run_sql(sql), "nothing is replicated")
        yield primary, replica


async def test_replica_behind(
    pair: tuple[MariaDB, MariaDB], valkey: Valkey, tmp_path: Path
) -> None:
    """An old row that a replica still shows is not kept: its own log tells when it shows the new one."""
    primary, replica = pair
    follower = make_host(
        "mx1", tmp_path, primary, valkey.url, follows=True, hosts=(primary, replica)
    )
    reader = make_host("mx2", tmp_path, replica, valkey.url, follows=False)
    follower.start()
    reader.start()
    try:
        await reader.watched()
        old_was_kept = 0
        for number in range(ROUNDS):
            value = f"number {number}"
            await reader.ask("alias", KEY)
            await asyncio.to_thread(replica.run_sql, "STOP SLAVE SQL_THREAD")
            sql = "UPDATE t.alias SET goto = %s WHERE address = 'a@example.com'"
            await asyncio.to_thread(primary.run_sql, sql, value)
            await asyncio.sleep(LAG)
            old_was_kept += await reader.ask("alias", KEY) != Found(value.encode())
            await asyncio.to_thread(replica.run_sql, "START SLAVE SQL_THREAD")
            async with asyncio.timeout(5):
                while await reader.ask("alias", KEY) != Found(value.encode()):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            assert reader.is_watched()
        assert old_was_kept == ROUNDS, "the replica was not behind, so that this shows nothing"
        await until(lambda: reader.bus.gaps == 0)
    finally:
        await reader.close()
        await follower.close()


async def test_replica_that_nobody_follows(
    pair: tuple[MariaDB, MariaDB], valkey: Valkey, tmp_path: Path
) -> None:
    """A follower of the primary alone vouches for nothing that is read from a replica."""
    primary, replica = pair
    follower = make_host("mx1", tmp_path, primary, valkey.url, follows=True)
    same = make_host("mx2", tmp_path, primary, valkey.url, follows=False)
    reader = make_host("mx3", tmp_path, replica, valkey.url, follows=False)
    hosts = (follower, same, reader)
    for host in hosts:
        host.start()
    try:
        await same.watched()
        await until(lambda: reader.bus.followers == ["mx1"])
        assert not reader.is_watched()
    finally:
        for host in reversed(hosts):
            await host.close()


async def test_shared_answers_of_a_replica_behind(
    pair: tuple[MariaDB, MariaDB],
    valkey: Valkey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 3 000 rows that a replica shows 20 ms late, none is outdated: on no host, and not in the second level.

    Not even while tombstones end sooner than the replica catches up.
    """
    asyncio.get_running_loop().set_debug(False)
    monkeypatch.setattr(exchange, "DEADLINE", 10.0)  # a busy machine makes nobody leave it aside
    monkeypatch.setattr(second_level, "TOMBSTONE", 0.001)
    primary, replica = pair
    keys = [b"u%d" % number for number in range(300)]
    rows = ", ".join(f"('{key.decode()}', 'first', 'd')" for key in keys)
    primary.run_sql(f"INSERT INTO t.alias VALUES {rows}")
    make = partial(make_host, folder=tmp_path, url=valkey.url, more=SECOND_LEVEL)
    follower = make("mx1", server=primary, follows=True, hosts=(primary, replica))
    behind = make("mx2", server=replica, follows=False)
    ahead = make("mx3", server=primary, follows=False)
    hosts = [follower, behind, ahead]
    value = Found(b"first")
    for host in hosts:
        host.start()
    try:
        for host in hosts:
            await host.shares()
        old = 0
        for number in range(10):
            value = Found(b"number %d" % number)
            for host in hosts:
                await asyncio.gather(*[host.ask("alias", key) for key in keys])
            await asyncio.to_thread(replica.run_sql, "STOP SLAVE SQL_THREAD")
            sql = "UPDATE t.alias SET goto = %s WHERE domain = 'd'"
            await asyncio.to_thread(primary.run_sql, sql, value.value.decode())
            await asyncio.sleep(LAG)
            for host in (behind, ahead):
                found = await asyncio.gather(*[host.ask("alias", key) for key in keys])
                old += sum(answer != value for answer in found)
            await asyncio.to_thread(replica.run_sql, "START SLAVE SQL_THREAD")
            await asyncio.to_thread(catch_up, primary, replica)
            assert follower.following is not None
            await follower.following.databases["mail"].catch_up()
            for host in hosts:
                await until(lambda host=host: _settled(host, follower))  # type: ignore[misc]
                found = await asyncio.gather(*[host.ask("alias", key) for key in keys])
                assert [answer for answer in found if answer != value] == [], host.name
        print(f"old rows seen while the replica was behind: {old}")
        assert old > 0, "the replica was not behind, so that this shows nothing"
        for host in hosts:
            await until(lambda host=host: not is_busy(host.second.exchange))  # type: ignore[misc]
        cold = make("mx4", server=primary, follows=False)
        cold.start()
        hosts.append(cold)
        await cold.shares()
        found = await asyncio.gather(*[cold.ask("alias", key) for key in keys])
        assert [answer for answer in found if answer != value] == []
        assert cold.second.counts()["hit"] > 0
        assert sum(host.second.counts()["hit"] for host in hosts) > len(keys)
    finally:
        for host in reversed(hosts):
            await host.close()


def _settled(host: Host, follower: Host) -> bool:
    """Tell whether a host has carried out everything that the follower has told, and that has told everything."""
    assert follower.following is not None
    told = all(is_settled(database) for database in follower.following.databases.values())
    told = told and not follower.bus._publisher._pending and not follower.bus._publisher._sending
    read = host.bus.position.last_id
    return told and not host.bus._forgetting.sweeps and read >= follower.bus.position.last_id
