"""Never worse than alone: what happens to the server, the network or the others ends a proof, and nothing else.

Each test is named in the table of docs/fleet.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mailmapd.check.cluster import cluster_findings
from mailmapd.cluster import coverage
from mailmapd.engine.invalidation import Invalidation
from mailmapd.errors import ClusterError
from mailmapd.model import Found
from support.fleet import SCHEMA, Host, fleet, make_host
from support.mariadb import MariaDB, private_directory
from support.polling import until
from support.proxy import Proxy
from support.valkey import Sentinels, Valkey

pytestmark = [pytest.mark.servers, pytest.mark.root]

KEY = b"a@example.com"
UNFOLLOWED = "ä@example.com".encode()  # no follower's word is about such a key
ORDINARY = 301.0  # seconds: more than ttl
LONG = 70_000.0
AT_ONCE = 0.05  # seconds for an answer from memory, whatever happens elsewhere


@asynccontextmanager
async def two_hosts(
    database: MariaDB, url: str, folder: Path, more: str = ""
) -> AsyncIterator[tuple[Host, Host]]:
    """A follower, and a host that keeps an answer for long because of it."""
    async with fleet(database, url, folder, ["mx1", "mx2"], {"mx1"}, more=more) as hosts:
        mx2 = hosts["mx2"]
        await mx2.watched()
        assert await mx2.ask("alias", KEY) == Found(b"one")
        assert mx2.fresh("alias", KEY) > LONG
        yield hosts["mx1"], mx2


async def doubted(host: Host) -> None:
    """Wait until what is held counts from its last proof; nobody waits for an answer meanwhile."""
    await until(lambda: host.fresh("alias", KEY) < ORDINARY, "it is still believed")
    assert host.held("alias", KEY), "it was dropped"
    began = time.perf_counter()
    assert isinstance(await host.ask("alias", KEY), Found)
    assert time.perf_counter() - began < AT_ONCE


async def finds_out(host: Host, database: MariaDB, value: bytes) -> None:
    """Change a row of which nobody tells, and see that the host knows it soon all the same."""
    database.run_sql("UPDATE t.alias SET goto = %s WHERE address = 'a@example.com'", value.decode())
    async with asyncio.timeout(5):
        while await host.ask("alias", KEY) != Found(value):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_server_away(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """Killed: the ordinary times count from the last proof; back with nothing: known for long again, after a doubt."""
    async with two_hosts(database, valkey.url, tmp_path) as (mx1, mx2):
        valkey.kill()
        await until(lambda: mx2.bus.reason != "")
        mx2.clock.ahead += coverage.PATIENCE
        await mx2.unwatched()
        await finds_out(mx2, database, b"away")
        with pytest.raises(ClusterError):
            await mx1.bus.flush({"all": True})
        await until(lambda: mx2.fresh("alias", KEY) > 0)
        valkey.start()
        await mx2.watched()
        assert mx2.bus.gaps == 1
        database.run_sql("UPDATE t.alias SET goto = 'back' WHERE address = 'a@example.com'")
        await until(lambda: not mx2.held("alias", KEY))


async def test_server_silent(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """Stopped in the middle: as away. It goes on where it stood: nothing was missed, and everything is told late."""
    async with two_hosts(database, valkey.url, tmp_path) as (_, mx2):
        valkey.pause()
        mx2.clock.ahead += coverage.PATIENCE
        await mx2.unwatched()
        await doubted(mx2)
        database.run_sql("UPDATE t.alias SET goto = 'late' WHERE address = 'b@example.com'")
        await mx2.ask("alias", b"b@example.com")
        valkey.resume()
        await mx2.watched()
        assert mx2.bus.gaps == 0


async def test_refused(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """The server does not let anybody in any more: as away; and it says why, without the password."""
    login = 'user = "default"\npassword = "secret"\n'
    valkey.run("CONFIG", "SET", "requirepass", "secret")
    async with two_hosts(database, valkey.url, tmp_path, login) as (mx1, mx2):
        valkey.run("CONFIG", "SET", "requirepass", "other", password="secret")
        valkey.run("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", password="other")
        await until(lambda: "password" in mx2.bus.reason, "it is let in")
        assert "secret" not in mx2.bus.reason
        mx2.clock.ahead += coverage.PATIENCE
        await mx2.unwatched()
        await finds_out(mx2, database, b"refused")
        with pytest.raises(ClusterError, match="password"):
            await mx1.bus.flush({"all": True})
        valkey.run("CONFIG", "SET", "requirepass", "secret", password="other")
        await mx2.watched()
        assert mx2.bus.gaps == 0


@pytest.mark.parametrize("way", ["to the follower", "to the host", "answers to the follower"])
async def test_network_swallows(database: MariaDB, way: str, tmp_path: Path) -> None:
    """Packets of one host get lost: who hears nothing, or is not heard, is not relied upon."""
    with (
        private_directory() as folder,
        Valkey(folder, tcp=True) as server,
        Proxy(server.port) as proxy,
    ):
        through, direct = f"redis://127.0.0.1:{proxy.port}/0", f"redis://127.0.0.1:{server.port}/0"
        urls = (direct, through) if way == "to the host" else (through, direct)
        mx1 = make_host("mx1", tmp_path, database, urls[0], follows=True)
        mx2 = make_host("mx2", tmp_path, database, urls[1], follows=False)
        mx1.start()
        mx2.start()
        try:
            await mx2.watched()
            await mx2.ask("alias", KEY)
            if way == "answers to the follower":
                # It is heard, again and again, but it hears nothing: its word is about no later moment.
                proxy.swallow_answers()
                [mail] = mx2.bus._watching._databases.values()
                await until(
                    lambda: mx2.clock() - mail.tables[0].proven > 5.0, "it is still relied upon"
                )
            else:
                proxy.swallow()
            assert mx2.bus.followers == ["mx1"]
            mx2.clock.ahead += coverage.PATIENCE
            await mx2.unwatched()
            assert mx2.bus.followers == [], (
                "whoever is not heard, as after kill -9, vouches for nothing"
            )
            await finds_out(mx2, database, b"lost")
            proxy.forward()
            await mx2.watched()
        finally:
            await mx2.close()
            await mx1.close()


async def test_restart(database: MariaDB, tmp_path: Path) -> None:
    """Restarted with what it had written down: the same stream goes on, but nothing proves that all of it is there."""
    settings = ["--appendonly", "yes", "--appendfsync", "always"]
    with private_directory() as folder, Valkey(folder, settings=settings) as server:
        async with two_hosts(database, server.url, tmp_path) as (_, mx2):
            last = mx2.bus.position.last_id
            server.kill()
            server.start()
            await until(lambda: mx2.bus.gaps == 1)
            await doubted(mx2)
            await mx2.watched()
            assert mx2.bus.position.last_id > last


REMOVED = (
    "local id = redis.call('XADD', 'mailmapd', '*', 'm', 'x') redis.call('XDEL', 'mailmapd', id)"
)
BEHIND = "redis.call('DEL', 'mailmapd') redis.call('XADD', 'mailmapd', '1-1', 'm', 'x')"


async def test_stream_spoiled(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """A stream that is not what was read so far: what was known counts from the last proof, and then it goes on."""
    async with two_hosts(database, valkey.url, tmp_path) as (_, mx2):
        spoils = (("FLUSHALL",), ("DEL", "mailmapd"), ("EVAL", REMOVED, 0), ("EVAL", BEHIND, 0))
        for number, spoil in enumerate(spoils, 1):
            await mx2.watched()
            mx2.engine.apply(Invalidation("alias", frozenset((KEY, UNFOLLOWED))))
            await mx2.ask("alias", KEY)
            assert mx2.fresh("alias", KEY) > LONG
            await mx2.ask("alias", UNFOLLOWED)
            assert not mx2.is_in_doubt("alias", UNFOLLOWED)
            valkey.run(*spoil)
            await until(lambda number=number: mx2.bus.gaps == number, str(spoil), 5)  # type: ignore[misc]
            assert mx2.is_in_doubt("alias", UNFOLLOWED), "a flush of it may have been missed"
            await doubted(mx2)
            await mx2.watched()
            await mx2.ask("alias", b"b@example.com")
            database.run_sql(
                "UPDATE t.alias SET goto = %s WHERE address = 'b@example.com'", f"number {number}"
            )
            await until(lambda: not mx2.held("alias", b"b@example.com"))


async def test_full(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """Full: nothing can be told, so nothing is proven; `flush` says so."""
    async with two_hosts(database, valkey.url, tmp_path) as (mx1, mx2):
        valkey.run("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(ClusterError, match="maxmemory"):
            await mx1.bus.flush({"user": "a@example.com"})
        mx2.clock.ahead += coverage.PATIENCE
        await mx2.unwatched()
        await finds_out(mx2, database, b"full")
        assert await mx2.ask("alias", b"b@example.com") == Found(b"two")
        database.run_sql("UPDATE t.alias SET goto = 'told' WHERE address = 'b@example.com'")
        await asyncio.sleep(0.6)  # until it was tried in vain
        valkey.run("CONFIG", "SET", "maxmemory", "0")
        await until(lambda: not mx2.held("alias", b"b@example.com"), "it was not told late")
        await mx2.watched()


@pytest.mark.parametrize("reason", ["xadd", "hset", "snapshot"])
async def test_mute(
    database: MariaDB,
    valkey: Valkey,
    tmp_path: Path,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A host that hears the others and cannot tell them anything says so once, with the reason; so does `check`."""
    account = ["ACL", "SETUSER", "mail", "reset", "on", ">secret", "~*", "+@all"]
    valkey.run(*account)
    login = 'user = "mail"\npassword = "secret"\n'
    async with fleet(database, valkey.url, tmp_path, ["mx1"], {"mx1"}, more=login) as hosts:
        mx1 = hosts["mx1"]
        await until(lambda: valkey.run("XLEN", "mailmapd") > 0, "it does not speak")
        assert mx1.bus.mute == ""
        if reason == "snapshot":  # which cannot be written, so that nothing else may be
            (valkey.directory / "dump.rdb").mkdir()
            valkey.run("CONFIG", "SET", "save", "1 1")
            valkey.run("BGSAVE")
        else:
            valkey.run(*account[:3], f"-{reason}")
        await until(lambda: reason in mx1.bus.mute, "it says nothing", 10)
        assert mx1.plan.cluster is not None
        found = [finding async for finding in cluster_findings(mx1.plan.cluster)]
        assert "cluster_mute" in [finding.code for finding in found]
        assert caplog.text.count("cannot be told anything") == 1
        valkey.run("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
        valkey.run(*account[:3], "+@all")
        await until(lambda: mx1.bus.mute == "", "it is still mute")


async def test_not_logged(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """What an audit of one host has found, that a table changes without its log saying so, holds on all of them."""
    names = ["mx1", "mx2", "mx3"]
    async with fleet(database, valkey.url, tmp_path, names, {"mx1", "mx2"}) as hosts:
        for host in hosts.values():
            await host.watched()
            await host.watched("of_domain")
            await host.ask("alias", KEY)
            assert host.fresh("alias", KEY) > LONG
        following = hosts["mx1"].following
        assert following is not None
        following.databases["mail"].suspend("alias", "an audited answer was outdated")
        for host in hosts.values():
            await host.unwatched()
            await until(lambda host=host: host.fresh("alias", KEY) < ORDINARY)  # type: ignore[misc]
            assert host.is_watched("of_domain")
        proven = hosts["mx3"].bus._proven
        await until(lambda: hosts["mx3"].bus._proven > proven + 1.0)
        assert not any(host.is_watched() for host in hosts.values())


async def test_evicted(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """Full, and the stream is thrown away to make room: doubt, as of one that was deleted."""
    async with two_hosts(database, valkey.url, tmp_path) as (_, mx2):
        valkey.run("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", "1")
        await until(lambda: not valkey.run("EXISTS", "mailmapd"), "it is still there")
        valkey.run("CONFIG", "SET", "maxmemory", "0")
        await until(lambda: mx2.bus.gaps > 0)
        await doubted(mx2)
        await mx2.watched()


async def test_lookups_do_not_wait(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """While the server is silent, what is in memory is answered as quickly as ever, and the rest by the database."""
    async with two_hosts(database, valkey.url, tmp_path) as (_, mx2):
        loop = asyncio.get_running_loop()
        loop.set_debug(False)
        slowest = []
        for paused in (False, True):
            if paused:
                valkey.pause()
            worst = 0.0
            for number in range(400):
                began = time.perf_counter()
                await mx2.ask("alias", KEY)
                await mx2.ask("alias", b"unknown%d-%d@example.com" % (paused, number))
                worst = max(worst, time.perf_counter() - began)
                await asyncio.sleep(0.001)
            slowest.append(worst)
        valkey.resume()
        # The deadlines towards the server are a second and more: nobody has waited for one of them.
        assert slowest[1] < max(5 * slowest[0], 0.5)


async def test_stranger(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """What is not understood may have meant anything; what others understand of it does no harm."""
    async with two_hosts(database, valkey.url, tmp_path) as (_, mx2):
        for fields in (
            ("m", "garbage"),
            ("x", "y"),
            ("m", '{"v": 2, "host": "mx9", "run": "r", "seen": "0-0", "sing": 1}'),
            ("m", '{"v": 1, "host": "mx9", "run": "r", "seen": "0-0", "flush": {"user": 7}}'),
            ("m", "[" * 100_000),
            (
                "m",
                '{"v": 1, "host": "mx9", "run": "r", "seen": "0-0", "hears": {"mail": {"epoch": true}}}',
            ),
        ):
            valkey.run("XADD", "mailmapd", "*", *fields)
        await until(lambda: mx2.bus.counts["unknown"] == 6)
        await doubted(mx2)
        assert mx2.is_watched()


async def test_stranger_without_the_key(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """With a key, what a stranger says is counted, and neither forgets anything nor vouches for anything."""
    for name in ("mx1", "mx2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text("a long secret")
    async with two_hosts(database, valkey.url, tmp_path, 'key_file = "key"') as (_, mx2):
        message = '{"v": 1, "host": "mx1", "run": "r", "seen": "0-0", "flush": {"all": true}}'
        valkey.run("XADD", "mailmapd", "*", "m", message)
        valkey.run("XADD", "mailmapd", "*", "m", message, "s", "00" * 16)
        await until(lambda: mx2.bus.counts["foreign"] == 2)
        assert mx2.fresh("alias", KEY) > LONG
        assert mx2.bus.counts["unknown"] == 0


async def test_followers_away(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """One of two followers ends: nothing is doubted. The other one, too: the ordinary times hold."""
    names = ["mx1", "mx2", "mx3"]
    async with fleet(database, valkey.url, tmp_path, names, {"mx1", "mx2"}) as hosts:
        mx3 = hosts["mx3"]
        await mx3.watched()
        sources = mx3.bus._coverage.sources
        await until(lambda: len(sources) == 2)
        [mail] = mx3.bus._watching._databases.values()
        first = next(name for name, source in sources.items() if source is mail.tables[0].source)
        other = next(source for name, source in sources.items() if name != first)
        # Until the other one vouches for a time that has been proven already.
        await until(lambda: max(other.since.values()) < sources[first].proven)
        second = hosts["mx1" if first[0] == "mx2" else "mx2"]
        for host in (second, mx3):
            await host.ask("alias", KEY)
        [own] = second.bus._watching._databases.values()
        await until(lambda: own.tables[0].proven >= own.tables[0].left)
        await hosts[first[0]].stop()
        await until(lambda: mail.tables[0].source is other)
        await until(lambda: own.tables[0].source is None, "it relies on the other one")
        assert second.fresh("alias", KEY) > LONG, "it follows the database itself"
        assert mx3.is_watched()
        assert mx3.fresh("alias", KEY) > LONG
        await second.bus.close()
        mx3.clock.ahead += coverage.PATIENCE
        await mx3.unwatched()
        await doubted(mx3)


async def test_break_between_followers(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """A follower that begins after the other one has ended stands in for nothing that happened between."""
    async with two_hosts(database, valkey.url, tmp_path) as (mx1, mx2):
        await mx1.stop()
        database.run_sql("UPDATE t.alias SET goto = 'between' WHERE address = 'a@example.com'")
        mx1.start()
        await until(lambda: mx2.fresh("alias", KEY) < ORDINARY, "it is still believed", 5)
        await until(mx2.is_watched)
        async with asyncio.timeout(5):
            while await mx2.ask("alias", KEY) != Found(b"between"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_host_away(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """A host that comes back reads what was said meanwhile; if that is gone, it trusts nothing of before."""
    async with two_hosts(database, valkey.url, tmp_path) as (mx1, mx2):
        await until(lambda: bool(valkey.run("HEXISTS", "mailmapd:hosts", "mx2")))
        await mx2.stop()
        await mx1.bus.flush({"user": "a@example.com"})
        mx2.start()
        await until(lambda: not mx2.held("alias", KEY), "a flush was missed")
        assert mx2.bus.gaps == 0
        await mx2.ask("alias", KEY)
        await mx2.stop()
        await mx1.bus.flush({"user": "a@example.com"})
        valkey.run("XTRIM", "mailmapd", "MAXLEN", "0")
        mx2.start()
        await until(lambda: mx2.bus.gaps == 1)
        await doubted(mx2)


async def test_feed_lost(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """A follower that hears nothing of the database itself vouches for nothing."""
    async with two_hosts(database, valkey.url, tmp_path) as (_, mx2):
        database.kill_connections("replica")
        await until(lambda: mx2.fresh("alias", KEY) < ORDINARY)
        await mx2.watched()
        database.kill_connections("mail")
        await until(lambda: not mx2.is_watched(), "its own server is not known")
        await mx2.watched()


async def test_what_nobody_follows(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """A host that reads another server, or asks something else, keeps its ordinary times."""
    with private_directory() as folder, MariaDB(folder) as other:
        other.run_sql("CREATE DATABASE t")
        other.run_sql(SCHEMA, database="t")
        other.grant("mail", "p", "t")
        async with two_hosts(database, valkey.url, tmp_path):
            differs = {"alias": "SELECT domain FROM alias WHERE address = '%s'"}
            odd = [
                make_host("elsewhere", tmp_path, other, valkey.url, follows=False),
                make_host("differs", tmp_path, database, valkey.url, follows=False, tables=differs),
                make_host("same", tmp_path, database, valkey.url, follows=False),
            ]
            for host in odd:
                host.start()
                await host.joined()
            await odd[-1].watched()
            await until(lambda: all(host.bus.followers == ["mx1"] for host in odd))
            assert [host.is_watched() for host in odd] == [False, False, True]
            for host in odd:
                await host.close()


async def test_replica_as_server(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """A server that is a replica is not read: what it says may be older than what was told."""
    valkey.run("REPLICAOF", "127.0.0.1", "1")
    host = make_host("mx9", tmp_path, database, valkey.url, follows=False)
    host.start()
    await until(lambda: "replica" in host.bus.reason)
    await host.close()


async def test_failover(database: MariaDB, tmp_path: Path) -> None:
    """Sentinels make a replica the primary that lacks the last messages: what was known counts from the last proof."""
    with private_directory() as folder, Sentinels(folder, silence=2.0) as sentinels:
        for name in ("mx1", "mx2"):
            (tmp_path / name).mkdir()
        listed = ", ".join(f'"127.0.0.1:{port}"' for port in sentinels.ports)
        where = f'sentinels = [{listed}]\nservice = "mail"\n'
        async with two_hosts(database, "", tmp_path, where) as (_, mx2):
            sentinels.replica.pause()
            last = mx2.bus.position.last_id
            await until(lambda: mx2.bus.position.last_id > last)
            sentinels.primary.kill()
            sentinels.replica.resume()
            await until(lambda: mx2.fresh("alias", KEY) < ORDINARY)
            await mx2.watched()
            assert mx2.bus.gaps == 1
            database.run_sql("UPDATE t.alias SET goto = 'then' WHERE address = 'a@example.com'")
            await until(lambda: not mx2.held("alias", KEY))
