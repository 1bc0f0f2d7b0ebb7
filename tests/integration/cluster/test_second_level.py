"""Answers that hosts share through the server: who starts with nothing finds them, and nothing of them is outdated."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from copy import copy
from pathlib import Path

import pytest
from redis.exceptions import OutOfMemoryError

from mailmapd.cluster import exchange
from mailmapd.cluster.coverage import PATIENCE
from mailmapd.cluster.sealing import Sealer
from mailmapd.cluster.server import Server
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.engine.dicts.dict import Dict
from mailmapd.engine.dicts.mismatches import Mismatches
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.outcome import Outcome
from mailmapd.errors import ClusterError
from mailmapd.model import NOT_FOUND, Found, TempFail
from support.fleet import SECOND_LEVEL, TABLES, Host, fleet, make_host
from support.mariadb import MariaDB, private_directory
from support.polling import until
from support.proxy import Proxy
from support.settled import is_busy
from support.valkey import Kind, Valkey

pytestmark = [pytest.mark.servers, pytest.mark.root]

KEY = b"a@example.com"


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody leave the second level aside because this machine is busy, where that is not what a test is about."""
    if "impatient" not in request.fixturenames:
        monkeypatch.setattr(exchange, "DEADLINE", 10.0)


@pytest.fixture
def impatient() -> None:
    """Leave the deadline as it is."""


async def test_cold_host(database: MariaDB, kind: Kind, tmp_path: Path) -> None:
    """A host that starts with nothing answers what others have asked without asking the database: rows and absences."""
    with private_directory() as folder, Valkey(folder, kind=kind) as server:
        async with fleet(
            database, server.url, tmp_path, ["mx1", "mx2"], {"mx1"}, more=SECOND_LEVEL
        ) as hosts:
            mx1, mx2 = hosts["mx1"], hosts["mx2"]
            await mx2.shares()
            assert await mx2.ask("alias", KEY) == Found(b"one")
            assert await mx2.ask("alias", b"nobody@example.com") == NOT_FOUND
            assert await mx2.ask("of_domain", b"x@example.com") == Found(b"one,two")
            selects = mx2.selects
            await until(lambda: mx2.second.exchange.counts["filled"] == selects)
            cold = make_host(
                "mx3", tmp_path, database, server.url, follows=False, more=SECOND_LEVEL
            )
            cold.start()
            try:
                await cold.shares()
                for host in (cold, mx1):
                    await host.shares()
                    assert await host.ask("alias", KEY) == Found(b"one")
                    assert await host.ask("alias", b"nobody@example.com") == NOT_FOUND
                    assert await host.ask("of_domain", b"x@example.com") == Found(b"one,two")
                    assert host.selects == 0, host.name
                    assert host.fresh("alias", KEY) > 70_000
                database.run_sql("UPDATE t.alias SET goto = 'new' WHERE address = 'a@example.com'")
                for host in (cold, mx2, mx1):
                    await until(lambda host=host: not host.held("alias", KEY))  # type: ignore[misc]
                    assert await host.ask("alias", KEY) == Found(b"new")
            finally:
                await cold.close()


async def shared(host: Host, count: int) -> None:
    """Wait until a host has shared as many answers."""
    await until(
        lambda: host.second.exchange.counts["filled"] >= count,
        f"not shared: {host.second.counts()}",
    )


async def test_database_away(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """While the database is away a host that starts answers what others know, and fails for the rest."""
    async with fleet(
        database, valkey.url, tmp_path, ["mx1", "mx2"], {"mx1"}, more=SECOND_LEVEL
    ) as hosts:
        mx2 = hosts["mx2"]
        await mx2.shares()
        await mx2.ask("alias", KEY)
        await mx2.ask("alias", b"nobody@example.com")
        await shared(mx2, 2)
    nowhere = replace_hosts(database)
    cold = make_host("mx3", tmp_path, nowhere, valkey.url, follows=False, more=SECOND_LEVEL)
    cold.start()
    try:
        await cold.joined()
        await until(lambda: cold.second.exchange.is_open)
        assert await cold.ask("alias", KEY) == Found(b"one")
        assert await cold.ask("alias", b"nobody@example.com") == NOT_FOUND
        assert isinstance(await cold.ask("alias", b"b@example.com"), TempFail)
        assert cold.engine.tables["alias"].stale == 2
        assert cold.fresh("alias", KEY) == 0.0
        # A flush is one for the past, too
        await cold.bus.flush({"all": True}, [Invalidation("alias")])
        cold.engine.apply(Invalidation("alias"))
        assert isinstance(await cold.ask("alias", KEY), TempFail)
    finally:
        await cold.close()


def replace_hosts(database: MariaDB) -> MariaDB:
    """Return a database whose socket nobody listens at."""
    nowhere = copy(database)
    nowhere.socket = database.socket.with_name("nowhere")
    return nowhere


@pytest.mark.usefixtures("impatient")
async def test_server_silent(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """A server that does not answer keeps one round of lookups waiting for the deadline, and then nobody."""
    async with fleet(
        database, valkey.url, tmp_path, ["mx1", "mx2"], {"mx1"}, more=SECOND_LEVEL
    ) as hosts:
        mx2 = hosts["mx2"]
        await mx2.shares()
        level = mx2.second
        level.exchange._server._connections.seconds = (
            60.0  # so that nothing but the deadline ends the waiting
        )
        valkey.pause()
        keys = [b"u%d@example.com" % number for number in range(50)]
        async with asyncio.timeout(20):
            found = await asyncio.gather(*[mx2.ask("alias", key) for key in keys])
        assert found == [NOT_FOUND] * 50
        assert level.exchange.counts["late"] > 0
        assert "no answer" in level.exchange.reason
        late, asked = level.exchange.counts["late"], level.counts()["skipped"]
        for number in range(50):
            assert await mx2.ask("alias", b"v%d@example.com" % number) == NOT_FOUND
        assert level.exchange.counts["late"] == late
        assert level.counts()["skipped"] >= asked + 50
        valkey.resume()
        await mx2.shares()
        filled = level.exchange.counts["filled"]
        await mx2.ask("alias", b"w@example.com")
        await shared(mx2, filled + 1)


@pytest.mark.usefixtures("impatient")
async def test_server_slow(database: MariaDB, tmp_path: Path) -> None:
    """A server that answers late is left aside, and asked again when it answers in time while nobody waits."""
    with (
        private_directory() as folder,
        Valkey(folder, tcp=True) as server,
        Proxy(server.port) as proxy,
    ):
        url = f"redis://127.0.0.1:{proxy.port}/0"
        names = ["mx1", "mx2"]
        async with fleet(database, url, tmp_path, names, {"mx1"}, more=SECOND_LEVEL) as hosts:
            mx2 = hosts["mx2"]
            await mx2.shares()
            proxy.swallow_answers()
            assert await mx2.ask("alias", KEY) == Found(b"one")
            assert mx2.second.exchange.counts["late"] == 1
            proxy.forward()
            await mx2.shares()


async def test_strangers(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """Garbage, answers of other keys, other types and what strangers have sealed are counted, and asked for anew."""
    async with fleet(
        database, valkey.url, tmp_path, ["mx1", "mx2"], {"mx1"}, more=SECOND_LEVEL
    ) as hosts:
        mx1, mx2 = hosts["mx1"], hosts["mx2"]
        await mx1.shares()
        await mx2.shares()
        names = {}
        digest = mx2.second._digests["alias"]
        for key in (KEY, b"b@example.com", b"c@example.com", b"d@example.com", b"e@example.com"):
            await mx2.ask("alias", key)
            names[key], _ = mx2.second._sealer.answer(digest, key)
        await shared(mx2, len(names))
        a, b, c, d, e = names.values()
        other = valkey.run("GET", b)
        for command in (
            ("SET", a, other),
            ("SET", b, "garbage"),
            ("DEL", c),
            ("RPUSH", c, "x"),
            ("SET", d, b"\0" * 1_000_000),
            ("SET", e, Sealer(b"another secret", "mailmapd:shared:").seal(e, b"x")),
        ):
            valkey.run(*command)
        assert await mx1.ask("alias", KEY) == Found(b"one")
        assert await mx1.ask("alias", b"b@example.com") == Found(b"two")
        for key in (b"c@example.com", b"d@example.com", b"e@example.com"):
            assert await mx1.ask("alias", key) == NOT_FOUND
        assert mx1.second.counts()["garbage"] == 5
        assert mx1.second.exchange.is_open
        await until(lambda: not any(valkey.run("EXISTS", name) for name in names.values()))


@pytest.mark.parametrize("event", ["flushed", "restarted", "restored"])
async def test_server_forgets(database: MariaDB, event: str, tmp_path: Path) -> None:
    """Flushed, restarted, or back with an old copy: nothing of before is believed, and answers are shared anew."""
    settings = ["--appendonly", "yes", "--appendfsync", "always"]
    with private_directory() as folder, Valkey(folder, settings=settings) as server:
        names = ["mx1", "mx2"]
        async with fleet(
            database, server.url, tmp_path, names, {"mx1"}, more=SECOND_LEVEL
        ) as hosts:
            mx1, mx2 = hosts["mx1"], hosts["mx2"]
            await mx1.shares()
            await mx2.shares()
            assert await mx2.ask("alias", KEY) == Found(b"one")
            await shared(mx2, 1)
            if event == "flushed":
                server.run("FLUSHALL")
            else:
                server.kill()
                if event == "restored":
                    # Meanwhile a row changes, which the copy of the server does not know
                    database.run_sql(
                        "UPDATE t.alias SET goto = 'new' WHERE address = 'a@example.com'"
                    )
                    await until(lambda: not mx1.held("alias", KEY))
                server.start()
            await until(lambda: mx2.bus.gaps == 1)
            await mx1.shares()
            await mx2.shares()
            expected = Found(b"new" if event == "restored" else b"one")
            mx1.engine.apply(Invalidation("alias"))
            assert await mx1.ask("alias", KEY) == expected
            assert mx1.second.counts()["hit"] == 0
            await until(lambda: not is_busy(mx1.second.exchange))


@pytest.mark.parametrize("asks", ["a host", "the follower"])
async def test_follower_away(database: MariaDB, valkey: Valkey, tmp_path: Path, asks: str) -> None:
    """What changed while nobody followed is not believed, though it is shared: nobody has told."""
    async with fleet(
        database, valkey.url, tmp_path, ["mx1", "mx2"], {"mx1"}, more=SECOND_LEVEL
    ) as hosts:
        mx1, mx2 = hosts["mx1"], hosts["mx2"]
        await mx2.shares()
        await mx2.ask("alias", KEY)
        await shared(mx2, 1)
        await mx1.stop()
        database.run_sql("UPDATE t.alias SET goto = 'between' WHERE address = 'a@example.com'")
        mx1.start()
        cold = make_host("mx3", tmp_path, database, valkey.url, follows=False, more=SECOND_LEVEL)
        cold.start()
        try:
            host = cold if asks == "a host" else mx1
            await host.shares()
            await until(lambda: bool(mx1.bus._publisher._began))
            host.engine.apply(Invalidation("alias"))
            assert await host.ask("alias", KEY) == Found(b"between")
            assert host.second.counts()["disbelieved"] == 1
        finally:
            await cold.close()


async def test_whoever_tells_does_not_believe_what_was_not_told(
    database: MariaDB, valkey: Valkey, tmp_path: Path
) -> None:
    """A follower that knows of a change asks nobody else for the row, until it has told the second level of it."""
    async with fleet(
        database, valkey.url, tmp_path, ["mx1", "mx2"], {"mx1"}, more=SECOND_LEVEL
    ) as hosts:
        mx1, mx2 = hosts["mx1"], hosts["mx2"]
        await mx1.shares()
        await mx2.shares()
        for host in (mx1, mx2):
            await host.ask("alias", KEY)
        await shared(mx1, 1)
        # It can tell nobody, but asks by other connections
        mx1.bus._publisher._server = Server(ClusterSettings(url="unix:/nowhere"))
        database.run_sql("UPDATE t.alias SET goto = 'new' WHERE address = 'a@example.com'")
        await until(lambda: not mx1.held("alias", KEY))
        hits = mx1.second.counts()["hit"]
        assert await mx1.ask("alias", KEY) == Found(b"new")
        assert mx1.second.counts()["hit"] == hits
        mx1.bus._publisher._server = mx1.bus._server
        await until(lambda: not mx2.held("alias", KEY))
        assert await mx2.ask("alias", KEY) == Found(b"new")


async def test_follower_without_it(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """A follower that does not tell the second level makes it useless, and nothing of it outdated."""
    names = ["mx1", "mx2", "mx3"]
    more = 'key_file = "key"\n'
    mx1 = make_host("mx1", tmp_path, database, valkey.url, follows=True, more=more)
    mx2, mx3 = (
        make_host(name, tmp_path, database, valkey.url, follows=False, more=SECOND_LEVEL)
        for name in names[1:]
    )
    for host in (mx1, mx2, mx3):
        host.start()
    try:
        for host in (mx2, mx3):
            await host.shares()
            await host.ask("alias", KEY)
        database.run_sql("UPDATE t.alias SET goto = 'new' WHERE address = 'a@example.com'")
        for host in (mx2, mx3):
            await until(lambda host=host: not host.held("alias", KEY))  # type: ignore[misc]
            assert await host.ask("alias", KEY) == Found(b"new")
            assert host.second.counts()["doubts"] > 0
    finally:
        for host in (mx3, mx2, mx1):
            await host.close()


async def test_server_full(database: MariaDB, tmp_path: Path) -> None:
    """Of a server's memory the last part is for messages; one that is quite full tells nothing, and nothing fails."""
    with private_directory() as folder, Valkey(folder) as server:
        names = ["mx1", "mx2"]
        async with fleet(
            database, server.url, tmp_path, names, {"mx1"}, more=SECOND_LEVEL
        ) as hosts:
            mx2 = hosts["mx2"]
            await mx2.shares()
            used = int(server.run("INFO", "memory")["used_memory"])
            server.run("CONFIG", "SET", "maxmemory", used * 2)
            for number in range(20):
                await mx2.ask("alias", b"absent%d@example.com" % number)
            await until(lambda: not is_busy(mx2.second.exchange))
            assert mx2.second.exchange.counts["dropped"] == 20, "half of 80 % is for absences"
            await mx2.ask("alias", KEY)
            await shared(mx2, 1)
            mx2.second.exchange._looked = float("-inf")
            server.run("CONFIG", "SET", "maxmemory", int(used * 1.2))
            await mx2.ask("alias", b"b@example.com")
            await until(lambda: mx2.second.exchange.counts["dropped"] == 21)
            server.run("CONFIG", "SET", "maxmemory", used // 2)
            # Quite full, it takes no message either, so that nothing is proven
            database.run_sql("UPDATE t.alias SET goto = 'full' WHERE address = 'a@example.com'")
            await until(lambda: not hosts["mx1"].held("alias", KEY))
            mx2.clock.ahead += PATIENCE
            await mx2.unwatched()
            assert mx2.second.exchange.is_open
            assert await mx2.ask("alias", b"c@example.com") == NOT_FOUND
            server.run("CONFIG", "SET", "maxmemory", 0)
            await mx2.shares()
            await until(lambda: not mx2.held("alias", KEY))
            assert await mx2.ask("alias", KEY) == Found(b"full")


async def answers(host: Host, keys: list[bytes], value: bytes) -> None:
    """Wait until a host gives the same answer for every key."""
    async with asyncio.timeout(20):
        while True:
            found = await asyncio.gather(*[host.ask("alias", key) for key in keys])
            if set(found) == {Found(value)}:
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("policy", ["volatile-ttl", "allkeys-lru"])
async def test_server_that_throws_out(database: MariaDB, policy: str, tmp_path: Path) -> None:
    """A server that throws keys out to make room, tombstones and tokens among them, has no host keep what was."""
    with private_directory() as folder, Valkey(folder) as server:
        names = ["mx1", "mx2"]
        async with fleet(
            database, server.url, tmp_path, names, {"mx1"}, more=SECOND_LEVEL
        ) as hosts:
            mx1, mx2 = hosts["mx1"], hosts["mx2"]
            await mx1.shares()
            await mx2.shares()
            server.run("CONFIG", "SET", "maxmemory-policy", policy)
            keys = [b"v%d@example.com" % number for number in range(100)]
            for value in (b"1", b"2"):
                rows = ", ".join(f"('{key.decode()}', '{value.decode()}', 'd')" for key in keys)
                await asyncio.to_thread(database.run_sql, f"REPLACE INTO t.alias VALUES {rows}")
                for host in (mx1, mx2):
                    await asyncio.gather(*[host.ask("alias", key) for key in keys])
                used = int(server.run("INFO", "memory")["used_memory"])
                # Anything but the stream goes, if it may
                server.run("CONFIG", "SET", "maxmemory", used - 20_000)
                with suppress(OutOfMemoryError):
                    server.run("SET", "another", "x" * 1000, "EX", 100)
                server.run("CONFIG", "SET", "maxmemory", 0)
                for host in (mx1, mx2):
                    await answers(host, keys, value)
            assert int(server.run("INFO", "stats")["evicted_keys"]) > 0


async def test_flush_that_nobody_hears(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """Who flushes and cannot tell believes nothing of before; who flushes more than others know of tells them apart."""
    async with fleet(
        database, valkey.url, tmp_path, ["mx1", "mx2"], {"mx1"}, more=SECOND_LEVEL
    ) as hosts:
        mx1, mx2 = hosts["mx1"], hosts["mx2"]
        await mx1.shares()
        await mx2.shares()
        await mx2.ask("alias", KEY)
        await shared(mx2, 1)
        level = mx1.second

        async def flush_in_vain() -> None:
            with level.flushing():
                assert not level.exchange.is_open
                assert await mx1.ask("alias", KEY) == Found(b"one")
                assert level.counts()["hit"] == 0
                mx1.engine.apply(Invalidation("alias"))
                raise ClusterError("nobody hears")

        with pytest.raises(ClusterError):
            await flush_in_vain()
        await mx1.shares()
        assert await mx1.ask("alias", KEY) == Found(b"one")
        assert (level.counts()["hit"], level.counts()["disbelieved"]) == (0, 1)
        await until(lambda: not is_busy(level.exchange))
        # Told, one key of a table is that, and no more
        mx2.engine.apply(Invalidation("alias"))
        for key in (KEY, b"b@example.com"):
            await mx2.ask("alias", key)
        await shared(mx2, 3)
        request = {"key": "b@example.com", "table": "alias"}
        await mx1.bus.flush(request, [Invalidation("alias", frozenset({b"b@example.com"}))])
        mx1.engine.apply(Invalidation("alias"))
        assert await mx1.ask("alias", b"b@example.com") == Found(b"two")
        assert level.counts()["hit"] == 0
        assert await mx1.ask("alias", KEY) == Found(b"one")
        assert level.counts()["hit"] == 1
        assert mx2.second.counts()["doubts"] == 0


async def test_follower_without_it_while_nobody_reads(
    database: MariaDB, valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changed while no host with the second level ran, told by one without it, is not what a new host says."""
    monkeypatch.setattr(exchange, "DEADLINE", 10.0)
    key = 'key_file = "key"\n'
    follower = make_host("mx1", tmp_path, database, valkey.url, follows=True, more=key)
    before, new = (
        make_host(name, tmp_path, database, valkey.url, follows=False, more=SECOND_LEVEL)
        for name in ("mx2", "mx3")
    )
    follower.start()
    before.start()
    try:
        await before.shares()
        assert await before.ask("alias", KEY) == Found(b"one")
        await until(lambda: before.second.exchange.counts["filled"] == 1)
        await before.close()
        told = follower.bus.sent
        database.run_sql("UPDATE t.alias SET goto = 'new' WHERE address = 'a@example.com'")
        await until(lambda: follower.bus.sent > told + 3)  # a heartbeat behind it, at least
        new.start()
        await new.shares()
        assert await new.ask("alias", KEY) == Found(b"new")
        assert new.second.counts()["disbelieved"] == 1
    finally:
        await new.close()
        await follower.close()


async def test_password_that_was_doubted(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """A password that turned out to be another one, which no log has shown, is not shared any more as it was."""
    more = SECOND_LEVEL + "second_level_passwords = true\n"
    database.run_sql("INSERT INTO t.users VALUES ('info@example.com', 'old')")
    tables = {"alias": TABLES["alias"], "users": "SELECT hash FROM users WHERE name = '%s'"}
    async with fleet(
        database, valkey.url, tmp_path, ["mx1", "mx2"], {"mx1"}, more=more, tables=tables
    ) as hosts:
        mx1, mx2 = hosts["mx1"], hosts["mx2"]
        await mx1.shares()
        await mx2.shares()
        user = b"info@example.com"
        await mx2.ask("users", user)
        await shared(mx2, 1)
        with database.connect("t") as connection, connection.cursor() as cursor:
            cursor.execute("SET sql_log_bin = 0")
            cursor.execute("UPDATE users SET hash = 'new'")
            connection.commit()
        # As after a mismatch
        mismatches = Mismatches(mx2.engine.tables["users"], mx2.clock)
        dicts = {"auth": Dict("auth", passdb=None, userdb=None, iteration=None)}
        dicts["auth"].mismatches = mismatches
        await mx2.bus.close()
        object.__setattr__(mx2.engine, "dicts", dicts)
        mx2.start()
        await mx2.shares()
        later: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        assert mismatches.ask(user, user, [], later.set_result) is None
        assert (await later).known == b"new"
        assert await mx2.ask("users", user) == Found(b"new")
        await until(lambda: not is_busy(mx2.second.exchange))
        assert await mx1.ask("users", user) == Found(b"new")
        assert mx1.second.counts()["hit"] == 0
