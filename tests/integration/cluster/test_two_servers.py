"""Connections that reach two servers, both of which live: by a name that moves, or one with two addresses.

What is told at one of them is not relied upon at the other.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mailmapd.cluster import reader
from mailmapd.cluster.reader import order
from mailmapd.cluster.scripts import ASK, FILL
from mailmapd.cluster.server import Condition, Elsewhere, Server
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.model import Found
from support.fleet import SECOND_LEVEL, Host, make_host
from support.mariadb import MariaDB, private_directory
from support.polling import until
from support.process import wait_until
from support.proxy import Proxy
from support.valkey import Valkey

pytestmark = [pytest.mark.servers, pytest.mark.root]

KEY = b"a@example.com"
AT_ONCE = ("--repl-diskless-sync-delay", "0")  # replicas get what there is


class Two(NamedTuple):
    """Two servers, and an address that leads to one of them."""

    first: Valkey
    second: Valkey
    address: Proxy

    @property
    def url(self) -> str:
        """Return the address."""
        return f"redis://127.0.0.1:{self.address.port}/0"


@pytest.fixture
def two() -> Iterator[Two]:
    with (
        private_directory() as folder,
        Valkey(folder / "first", tcp=True, settings=AT_ONCE) as first,
        Valkey(folder / "second", tcp=True, settings=AT_ONCE) as second,
        Proxy(first.port) as address,
    ):
        yield Two(first, second, address)


def history(server: Valkey) -> str:
    """Return whose history a server has."""
    return str(server.run("INFO", "replication")["master_replid"])


def changes_told(server: Valkey) -> int:
    """Return how many messages say at a server what has changed."""
    said = server.run("XRANGE", "mailmapd", "-", "+")
    return sum(b'"forget"' in fields[b"m"] for _, fields in said)


@asynccontextmanager
async def joined(*hosts: Host) -> AsyncIterator[None]:
    """Have hosts join, and leave in the end."""
    try:
        for host in hosts:
            host.start()
        for host in hosts:
            await host.joined()
        yield
    finally:
        for host in hosts:
            await host.close()


async def test_told_at_another_server(database: MariaDB, two: Two, tmp_path: Path) -> None:
    """A change that a follower has told where nobody else reads is told again before it vouches for anything."""
    follower = make_host("mx1", tmp_path, database, two.url, follows=True)
    here = make_host("mx2", tmp_path, database, two.first.url, follows=False)
    there = make_host("mx3", tmp_path, database, two.second.url, follows=False)
    async with joined(follower, here, there):
        await here.watched()
        assert await here.ask("alias", KEY) == Found(b"one")
        pool = follower.bus._server._redis.connection_pool
        two.address.aim(two.second.port)
        await pool.disconnect(inuse_connections=False)
        database.run_sql("UPDATE t.alias SET goto = 'new' WHERE address = 'a@example.com'")
        # At the event, and once more behind the fence
        await until(lambda: changes_told(two.second) > 1, "it is not told there")
        two.address.aim(two.first.port)
        await pool.disconnect(inuse_connections=False)
        await until(lambda: not here.held("alias", KEY), "it is not told here")
        assert await here.ask("alias", KEY) == Found(b"new")
        assert here.is_watched()
        await until(lambda: there.bus.counts["received"] > 0)
        assert not there.bus.followers


async def test_confirmed_at_another_server(database: MariaDB, two: Two, tmp_path: Path) -> None:
    """Who reads another server has not carried out a flush, whatever id its record names; nor who reads it later."""
    here = make_host("mx1", tmp_path, database, two.first.url, follows=False)
    there = make_host("mx2", tmp_path, database, two.second.url, follows=False)
    async with joined(here, there):
        told, history = await here.bus.flush({"all": True}), here.bus.history
        await there.bus.flush({"all": True})
        await until(lambda: order(there.bus.position.last_id) > order(told))
        own, other = there.bus.reports._server, Server(ClusterSettings(url=two.first.url))
        there.bus.reports._server = other  # its records go there
        there.bus.reports.report()
        await until(lambda: bool(two.first.run("HEXISTS", "mailmapd:hosts", "mx2")))
        assert await here.bus.reports.unconfirmed(told, 0.0, history) == ["mx2"]
        assert here.bus.last_flush == told
        there.bus.reports._server = own
        await other.close()


async def test_address_that_moves(
    database: MariaDB, two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the address leads elsewhere, hosts go there by themselves, though the server before lives on."""
    monkeypatch.setattr(reader, "COMPARE", 0.05)
    follower = make_host("mx1", tmp_path, database, two.url, follows=True)
    host = make_host("mx2", tmp_path, database, two.url, follows=False)
    async with joined(follower, host):
        await host.watched()
        await host.ask("alias", KEY)
        two.address.aim(two.second.port)
        await until(lambda: host.bus.position.history == history(two.second), "it has stayed")
        assert host.bus.gaps == 1
        await host.watched()
        database.run_sql("UPDATE t.alias SET goto = 'new' WHERE address = 'a@example.com'")
        async with asyncio.timeout(5):
            while await host.ask("alias", KEY) != Found(b"new"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_server_made_a_replica(database: MariaDB, two: Two, tmp_path: Path) -> None:
    """The primary behind an address becomes a replica, and the address leads to the new one: so do hosts."""
    follower = make_host("mx1", tmp_path, database, two.url, follows=True)
    host = make_host("mx2", tmp_path, database, two.url, follows=False)
    async with joined(follower, host):
        await host.watched()
        two.first.run("REPLICAOF", "127.0.0.1", two.second.port)
        await until(lambda: "replica" in host.bus.reason, "it does not say so")
        two.address.aim(two.second.port)
        await until(lambda: host.bus.position.history == history(two.second), "it has stayed")
        await host.watched()
        assert await follower.bus.flush({"all": True})
        await until(lambda: bool(two.second.run("HEXISTS", "mailmapd:hosts", "mx2")))
        await until(lambda: not any(each.bus.mute for each in (follower, host)))


@pytest.fixture
def addresses() -> Iterator[tuple[Valkey, Valkey]]:
    """Servers on two addresses, which one name has."""
    with (
        private_directory() as folder,
        Valkey(folder / "first", tcp=True, settings=AT_ONCE) as first,
    ):
        second = Valkey(folder / "second", settings=[*AT_ONCE, "--port", str(first.port)])
        second.settings += ["--bind", "127.0.0.2"]
        with second:
            yield first, second


async def test_name_with_two_addresses(
    addresses: tuple[Valkey, Valkey], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the addresses of a name that one is used whose server is the primary, also when it is another one later."""
    first, second = addresses
    known = ["127.0.0.1", "127.0.0.2"]

    async def resolve(host: str, port: int, **_: Any) -> list[Any]:
        names = known if host == "cache.example.test" else [host]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, port)) for name in names]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    server = Server(ClusterSettings(url=f"redis://cache.example.test:{first.port}"))
    condition = Condition()
    try:
        for primary, other in ((second, first), (first, second)):
            primary.run("REPLICAOF", "NO", "ONE")
            other.run("REPLICAOF", "127.0.0.1" if other is second else "127.0.0.2", first.port)
            wait_until(other.is_linked, "it is no replica yet")
            with pytest.raises(Elsewhere, match="is a replica"):
                await server.check("0-0")
            _, condition = await server.check("0-0")
            assert condition.history == history(primary)
            assert await server.compare(condition.history) == ""
            await server.add([{b"m": b"x"}], history=condition.history)
        other.run("REPLICAOF", "NO", "ONE")
        known.remove("127.0.0.1")
        assert "another server" in await server.compare(condition.history)
        _, condition = await server.check("0-0")
        assert condition.history == history(other)
    finally:
        await server.close()


async def test_answers_of_another_server(database: MariaDB, two: Two, tmp_path: Path) -> None:
    """No answer is shared or taken at another server than the one whose messages are read."""
    hosts = [
        make_host(name, tmp_path, database, two.url, follows=name == "mx1", more=SECOND_LEVEL)
        for name in ("mx1", "mx2")
    ]
    async with joined(*hosts):
        host = hosts[1]
        await host.shares()
        two.address.aim(two.second.port)
        await host.second.exchange._server.disconnect()
        assert await host.ask("alias", KEY) == Found(b"one")
        assert "different servers" in host.second.exchange.reason
        assert two.second.run("DBSIZE") == 0
        two.address.aim(two.first.port)
        await host.shares()
        assert await host.ask("alias", b"b@example.com") == Found(b"two")
        await until(lambda: host.second.exchange.counts["filled"] == 1)


async def test_answers_of_a_replica(two: Two) -> None:
    """A replica, which may be behind, is not asked for an answer, be it there or not; and nothing is shared there."""
    two.first.run("MSET", "m", "mark", "v", "an old answer", "g", "token")
    two.second.run("REPLICAOF", "127.0.0.1", two.first.port)
    wait_until(two.second.is_linked, "it is no replica yet")
    wait_until(lambda: two.second.run("GET", "v") == b"an old answer", "it is not there")
    for settings in (("replica-read-only", "yes"), ("replica-read-only", "no")):
        two.second.run("CONFIG", "SET", *settings)
        for server, answers in ((two.first, True), (two.second, False)):
            asked = Server(ClusterSettings(url=server.url))
            try:
                said = await asked.evaluate(ASK, [b"m", b"v", b"g"], [1, 99, "t", 1, "made"])
                assert answers
                assert said == [b"mark", b"an old answer"]
            except Elsewhere:
                assert not answers
                with pytest.raises(Elsewhere):
                    await asked.evaluate(FILL, [b"v", b"g"], ["token", "new", 1000])
            finally:
                await asked.close()
    assert two.second.run("GET", "v") == b"an old answer"
