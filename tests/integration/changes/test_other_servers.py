"""Connections of lookups that reach another server than the one whose log is read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailmapd.changes import followed_host
from mailmapd.databases.settings import ChangesSettings
from mailmapd.model import Found
from support.followed import PASSWORD, REPLICA, grant_replication
from support.followed_engine import following
from support.polling import until
from support.proxy import Proxy
from support.sql_server import SqlServer

pytestmark = [pytest.mark.servers, pytest.mark.root]

CHANGES = ChangesSettings(follow="yes", user=REPLICA, password=PASSWORD, audit=0.0)
ORDINARY = 301.0  # seconds: more than ttl
QUERY = "SELECT goto FROM alias WHERE address = '%s'"

New = Callable[..., SqlServer]


@pytest.mark.parametrize("kind", ["MariaDB", "MySQL 9"])
async def test_a_connection_to_another_server(
    new: New, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What a connection to another server answers is kept for the ordinary time, until that server is followed.

    Connections to the one before are used no more then.
    """
    monkeypatch.setattr(followed_host, "COMPARE", 1000.0)
    first, second = new(kind, 1), new(kind, 2)
    for server, goto in ((first, "one"), (second, "two")):
        grant_replication(server)
        server.run_sql(
            "CREATE DATABASE t; CREATE TABLE t.alias (address VARCHAR(99) PRIMARY KEY, goto TEXT);"
            f"INSERT INTO t.alias VALUES ('a', '{goto}'), ('b', '{goto}'), ('c', '{goto}')"
        )
        server.grant("mail", "p", "t")
    with Proxy(first.port) as address:
        at = f"127.0.0.1:{address.port}"
        async with following(first, tmp_path, CHANGES, {"alias": QUERY}, at) as bench:
            await until(lambda: bench.database.lease.holds)
            cache = bench.engine.tables["alias"].cache

            def kept(key: bytes) -> float:
                entry = cache.peek(key)
                return 0.0 if entry is None else entry[1] - time.monotonic()

            assert await bench.ask("alias", b"a") == Found(b"one")
            assert kept(b"a") > ORDINARY
            address.aim(second.port)
            with first.connect("t") as connection, connection.cursor() as cursor:
                cursor.execute("LOCK TABLES alias WRITE")
                waiting = asyncio.create_task(bench.ask("alias", b"c"))
                await asyncio.sleep(0)
                assert await bench.ask("alias", b"b") == Found(b"two")
                await until(lambda: kept(b"b") < ORDINARY, seconds=5.0)
                cursor.execute("UNLOCK TABLES")
            assert await waiting == Found(b"one")
            await until(lambda: bench.database.epoch == 2)
            assert kept(b"c") < ORDINARY
            bench.engine.tables["alias"].cache.clear()
            for key in (b"a", b"b", b"c"):
                assert await bench.ask("alias", key) == Found(b"two")
                assert kept(key) > ORDINARY
            second.run_sql("UPDATE t.alias SET goto = 'new'")
            for key in (b"a", b"b", b"c"):
                await bench.known("alias", key, Found(b"new"))
