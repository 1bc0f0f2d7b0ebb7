"""What an audit finds on a real server, and what it takes for the reason."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from mailmapd.changes import audit
from mailmapd.databases.settings import ChangesSettings
from support.followed import PASSWORD, REPLICA
from support.followed_engine import following
from support.mariadb import MariaDB
from support.polling import until

pytestmark = [pytest.mark.servers, pytest.mark.root]

SCHEMA = """
CREATE TABLE parent (name VARCHAR(99) PRIMARY KEY, place VARCHAR(99) UNIQUE);
CREATE TABLE child (name VARCHAR(99) PRIMARY KEY, place VARCHAR(99), KEY (place));
CREATE VIEW seen AS SELECT name, place FROM child;
INSERT INTO parent VALUES ('p', 'here'); INSERT INTO child VALUES ('a', 'here');
"""


class Unheard(NamedTuple):
    """A change that no log tells of: its statements, and the reason that is found."""

    statements: str
    reason: str


CASES = {
    "unlogged": Unheard(
        "SET sql_log_bin = 0; UPDATE child SET place = 'there'",
        "rows change without the log saying so (SET sql_log_bin = 0, binlog_do_db, binlog_ignore_db)",
    ),
    "cascade": Unheard(
        "SET sql_log_bin = 0;"
        "ALTER TABLE child ADD FOREIGN KEY (place) REFERENCES parent (place) ON UPDATE CASCADE;"
        "SET sql_log_bin = 1; UPDATE parent SET place = 'there'",
        "a foreign key changes its rows, which the log does not say",
    ),
    "time": Unheard(
        "SET sql_log_bin = 0;"
        "CREATE OR REPLACE VIEW seen AS SELECT name, CONCAT(place, NOW(6)) AS place FROM child",
        "its answer depends on the function CURRENT_TIMESTAMP(), and no log says since when",
    ),
    "schema": Unheard(
        "SET sql_log_bin = 0;CREATE OR REPLACE VIEW seen AS SELECT name, name AS place FROM child",
        "what it reads was altered, which the log does not say",
    ),
}


@pytest.mark.parametrize("unheard", CASES.values(), ids=CASES)
async def test_reasons(
    mariadb: MariaDB,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    unheard: Unheard,
) -> None:
    """A difference is logged with its table, the age of the answer and the likely reason."""
    monkeypatch.setattr(audit, "PAUSE", 0.01)
    mariadb.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    mariadb.run_sql(SCHEMA, database="t")
    mariadb.grant("mail", "p", "t", "SELECT, SHOW VIEW")
    changes = ChangesSettings(follow="yes", user=REPLICA, password=PASSWORD, audit=100.0)
    queries = {"seen": "SELECT place FROM seen WHERE name = '%s'"}
    async with following(mariadb, tmp_path, changes, queries) as bench:
        await until(lambda: bench.database.followed == {"seen"})
        seen = bench.engine.tables["seen"]
        async with asyncio.timeout(20):
            while not seen.audits["same"]:
                await bench.ask("seen", b"a")
                await asyncio.sleep(0.005)
        mariadb.run_sql(unheard.statements, database="t")
        async with asyncio.timeout(20):
            while not seen.audits["outdated"] or "any more" not in caplog.text:
                await bench.ask("seen", b"a")
                await asyncio.sleep(0.005)
        [line] = [each.getMessage() for each in caplog.records if each.name.endswith(".audit")]
        told = r"audit: table seen is not followed any more until the next reload: an audited answer was outdated: "
        assert re.fullmatch(told + re.escape(unheard.reason) + r", known for \d+ s", line)
        assert seen.watch is None
        assert bench.database.suspended["seen"].endswith(unheard.reason)
