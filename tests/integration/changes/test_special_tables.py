"""Columns and tables that the server makes of others: their changes are known, or it is said why not."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from mailmapd.changes import feed
from mailmapd.databases.settings import ChangesSettings
from mailmapd.model import NOT_FOUND, Found
from support.followed import PASSWORD, REPLICA
from support.followed_engine import BOTH, FollowedEngine, following
from support.mariadb import MariaDB
from support.polling import until
from support.settled import is_settled
from support.sql_server import SqlServer

pytestmark = [pytest.mark.servers, pytest.mark.root]

CHANGES = ChangesSettings(follow="yes", user=REPLICA, password=PASSWORD)
VIRTUAL = "is a virtual column, whose changes the log need not say; a STORED one would do"
ELSEWHERE = "whose rows change without this server's log saying so of it"
NO_MOMENT = "where nothing says from when on everybody sees a change; ALTER TABLE … ENGINE = InnoDB would do"


@BOTH
async def test_columns(server: SqlServer, tmp_path: Path) -> None:
    """What a stored column is made of changes it, in the smallest image, too; of a virtual one nothing is known.

    MariaDB lets a virtual column depend on the time, and leaves it out of images in which it has changed.
    """
    server.run_sql(
        "DROP DATABASE IF EXISTS t; CREATE DATABASE t;"
        "CREATE TABLE t.alias (address VARCHAR(99) PRIMARY KEY, goto VARCHAR(99), state VARCHAR(9),"
        " is_open INT AS (state = 'open') VIRTUAL, kept INT AS (state = 'open') STORED,"
        " host VARCHAR(99) AS (CONCAT('h-', goto)) STORED);"
        "INSERT INTO t.alias (address, goto, state) VALUES ('a', 'one', 'open')"
    )
    server.grant("mail", "p", "t")
    queries = {
        "open": "SELECT goto FROM alias WHERE address = '%s' AND is_open = 1",
        "all": "SELECT * FROM alias WHERE address = '%s'",
        "kept": "SELECT goto FROM alias WHERE address = '%s' AND kept = 1",
        "host": "SELECT host FROM alias WHERE address = '%s'",
    }
    server.run_sql("SET GLOBAL binlog_row_image = MINIMAL")
    try:
        async with following(server, tmp_path, CHANGES, queries) as bench:
            await until(lambda: bench.database.lease.holds)
            [followed] = bench.database.feeds
            assert followed.readers.not_followed == dict.fromkeys(
                ("open", "all"), f"t.alias.is_open {VIRTUAL}"
            )
            assert await bench.ask("kept", b"a") == Found(b"one")
            assert await bench.ask("host", b"a") == Found(b"h-one")
            server.run_sql("UPDATE t.alias SET state = 'closed'")
            await bench.known("kept", b"a", NOT_FOUND)
            server.run_sql("UPDATE t.alias SET goto = 'two'")
            await bench.known("host", b"a", Found(b"h-two"))
    finally:
        server.run_sql("SET GLOBAL binlog_row_image = FULL")


@BOTH
async def test_merged_tables(
    server: SqlServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A table that merges others is not followed, and neither are those: without transactions. It is said once."""
    caplog.set_level("INFO", "mailmapd.changes.following")
    server.run_sql(
        "DROP DATABASE IF EXISTS t; CREATE DATABASE t;"
        "CREATE TABLE t.one (address VARCHAR(99) NOT NULL PRIMARY KEY, goto VARCHAR(99)) ENGINE = MyISAM;"
        "CREATE TABLE t.merged (address VARCHAR(99) NOT NULL, goto VARCHAR(99), KEY (address))"
        " ENGINE = MERGE UNION = (t.one)"
    )
    server.grant("mail", "p", "t")
    queries = {name: f"SELECT goto FROM {name} WHERE address = '%s'" for name in ("merged", "one")}
    async with following(server, tmp_path, CHANGES, queries) as bench:
        await until(lambda: bench.database.lease.holds)
        [followed] = bench.database.feeds
        reasons = followed.readers.not_followed
        assert reasons["merged"].endswith(ELSEWHERE)
        assert reasons["one"] == f"t.one has the engine MyISAM, {NO_MOMENT}"
        for _ in range(3):
            bench.database.look()
        for name, reason in reasons.items():
            assert caplog.text.count(f"table {name} is not followed: {reason}") == 1


def kept_for_long(bench: FollowedEngine, name: str, key: bytes) -> bool:
    """Return whether an answer is kept for longer than the ordinary time."""
    entry = bench.engine.tables[name].cache.peek(key)
    return entry is not None and entry[1] > time.monotonic() + 600


def followed_now(bench: FollowedEngine, expected: frozenset[str]) -> bool:
    """Return whether these tables are followed, and no others."""
    return bench.database.followed == expected


@BOTH
async def test_engines(server: SqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept without transactions has the ordinary time, from the ALTER on that makes it so to the next one."""
    monkeypatch.setattr(feed, "CATALOG_PAUSE", 0.0)
    server.run_sql(
        "DROP DATABASE IF EXISTS t; CREATE DATABASE t;"
        "CREATE TABLE t.alias (address VARCHAR(99) NOT NULL PRIMARY KEY, goto VARCHAR(99)) ENGINE = MEMORY"
    )
    server.grant("mail", "p", "t")
    query = {"alias": "SELECT goto FROM alias WHERE address = '%s'"}
    async with following(server, tmp_path, CHANGES, query) as bench:
        await until(lambda: bench.database.lease.holds)
        [followed] = bench.database.feeds
        assert followed.readers.not_followed == {
            "alias": f"t.alias has the engine MEMORY, {NO_MOMENT}"
        }
        for engine in ("InnoDB", "MyISAM", "InnoDB"):
            server.run_sql(f"ALTER TABLE t.alias ENGINE = {engine}")
            is_followed = engine == "InnoDB"
            expected = frozenset({"alias"} if is_followed else ())
            await until(partial(followed_now, bench, expected))
            await until(lambda: is_settled(bench.database))
            await bench.ask("alias", b"a")
            assert kept_for_long(bench, "alias", b"a") is is_followed


async def test_seen_behind_its_event(mariadb: MariaDB, tmp_path: Path) -> None:
    """A row of MyISAM is logged before it is seen: what is asked in between has the ordinary time."""
    mariadb.run_sql(
        "DROP DATABASE IF EXISTS t; CREATE DATABASE t;"
        "CREATE TABLE t.alias (address VARCHAR(99) PRIMARY KEY, goto VARCHAR(99)) ENGINE = MyISAM;"
        "CREATE TABLE t.plain (address VARCHAR(99) PRIMARY KEY, goto VARCHAR(99)) ENGINE = InnoDB"
    )
    mariadb.grant("mail", "p", "t")
    queries = {name: f"SELECT goto FROM {name} WHERE address = '%s'" for name in ("alias", "plain")}
    async with following(mariadb, tmp_path, CHANGES, queries) as bench:
        await until(lambda: bench.database.lease.holds)
        with mariadb.connect("t") as connection, connection.cursor() as cursor:
            cursor.execute("LOCK TABLES alias WRITE CONCURRENT")
            cursor.execute("INSERT INTO alias VALUES ('a', 'new')")
            mariadb.run_sql("INSERT INTO t.plain VALUES ('b', 'new')")
            await bench.known(
                "plain", b"b", Found(b"new")
            )  # so the event has come, and the fence has passed it
            await until(lambda: is_settled(bench.database))
            assert await bench.ask("alias", b"a") == NOT_FOUND
            cursor.execute("UNLOCK TABLES")
        assert not kept_for_long(bench, "alias", b"a")
