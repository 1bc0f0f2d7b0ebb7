"""Columns and tables that the server makes of others: their changes are known, or it is said why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.databases.settings import ChangesSettings
from mailmapd.model import NOT_FOUND, Found
from support.followed import PASSWORD, REPLICA
from support.followed_engine import BOTH, following
from support.polling import until
from support.sql_server import SqlServer

pytestmark = [pytest.mark.servers, pytest.mark.root]

CHANGES = ChangesSettings(follow="yes", user=REPLICA, password=PASSWORD)
VIRTUAL = "is a virtual column, whose changes the log need not say; a STORED one would do"
ELSEWHERE = "is not there, or no table that its log speaks of"


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
            [feed] = bench.database.feeds
            assert feed.readers.not_followed == dict.fromkeys(
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
    """A table that merges others is not followed: the log speaks of those. It is said once."""
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
        [feed] = bench.database.feeds
        assert feed.readers.not_followed == {"merged": f"t.merged {ELSEWHERE}"}
        for _ in range(3):
            bench.database.look()
        assert caplog.text.count(f"table merged is not followed: t.merged {ELSEWHERE}") == 1
