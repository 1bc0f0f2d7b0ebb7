"""Hot keys after a bulk change: they are asked for again first, a few at a time, and nothing else is."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mailmapd.changes import refetching
from mailmapd.databases.settings import ChangesSettings
from mailmapd.engine.origin import Done
from mailmapd.model import NOT_FOUND, Found
from support.followed import PASSWORD, REPLICA
from support.followed_engine import BOTH, FollowedEngine, following
from support.polling import until
from support.settled import is_settled
from support.sql_server import SqlServer

pytestmark = [pytest.mark.servers, pytest.mark.root]

ROWS = 5_000  # more than count as bulk
QUERIES = {"alias": "SELECT goto FROM alias WHERE address = '%s'"}
COLD = [b"y%d@bulk" % number for number in range(30)]
HOT = [b"z1@bulk", b"zz@bulk", b"z2@bulk", b"z3@bulk"]
"""In the order in which they were used last; there is no row for one of them.

Their rows are the last of the table: those before the bulk is known as such are dropped one by one.
"""


class Log:
    """The keys that the queries' account has asked the server for, in order."""

    def __init__(self, server: SqlServer) -> None:
        self._server = server
        server.run_sql("SET GLOBAL log_output = 'TABLE', GLOBAL general_log = ON")
        server.run_sql("TRUNCATE TABLE mysql.general_log")

    def keys(self) -> list[bytes]:
        """Return what was asked for until now, and log nothing more."""
        self._server.run_sql("SET GLOBAL general_log = OFF")
        rows = self._server.run_sql(
            "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log"
            " WHERE argument LIKE 'SELECT goto FROM alias%%' ORDER BY event_time"
        )
        return [re.findall(r"'(.*)'", text)[0].encode() for (text,) in rows]


@pytest.fixture
async def bench(server: SqlServer, tmp_path: Path) -> AsyncIterator[FollowedEngine]:
    """A large table of which some keys are in memory, the hot ones used last."""
    server.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    server.run_sql("CREATE TABLE t.alias (address VARCHAR(99) PRIMARY KEY, goto TEXT)")
    rows = ",".join(f"('u{number}@bulk', 'old')" for number in range(ROWS))
    server.run_sql(f"INSERT INTO t.alias VALUES {rows}")
    for key in COLD + HOT:
        if key != b"zz@bulk":
            server.run_sql("INSERT INTO t.alias VALUES (%s, 'old')", key.decode())
    server.grant("mail", "p", "t")
    changes = ChangesSettings(follow="yes", user=REPLICA, password=PASSWORD, audit=0)
    async with following(server, tmp_path, changes, QUERIES) as made:
        await until(lambda: made.database.lease.holds)
        for key in [*HOT, *COLD, *HOT]:
            await made.ask("alias", key)
        yield made


async def change_all(bench: FollowedEngine, goto: str) -> None:
    """Change every row, and wait until that has been forgotten for the last time."""
    dropped = bench.engine.tables["alias"].invalidations["table"]
    await asyncio.to_thread(bench.server.run_sql, f"UPDATE t.alias SET goto = '{goto}'")
    await until(lambda: bench.engine.tables["alias"].invalidations["table"] > dropped)
    await until(lambda: is_settled(bench.database))


@BOTH
async def test_hottest_first(
    server: SqlServer, bench: FollowedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys that were used last are asked for anew, in that order, found or not; no more of them than there may be.

    Each of them once: nothing more is asked for in vain.
    """
    monkeypatch.setattr(refetching, "HOTTEST", 4)
    monkeypatch.setattr(bench.database._refetching, "_at_a_time", 1)
    log = Log(server)
    await change_all(bench, "new")
    await until(lambda: all(bench.held("alias", key) for key in HOT))
    misses = bench.engine.tables["alias"].misses
    assert await bench.ask("alias", b"z1@bulk") == Found(b"new")
    assert await bench.ask("alias", b"zz@bulk") == NOT_FOUND
    assert bench.engine.tables["alias"].misses == misses
    assert not any(bench.held("alias", key) for key in COLD)
    # Rows and absences in turn: which of both was used last is not known
    assert log.keys() == [b"z3@bulk", b"zz@bulk", b"z2@bulk", b"z1@bulk"]
    assert [
        until for until in map(bench.engine.tables["alias"].cache.peek, HOT) if until is None
    ] == []


async def test_no_stampede(server: SqlServer, bench: FollowedEngine) -> None:
    """However many ask for hot keys meanwhile, each is asked for once between two drops, on few connections."""
    table = bench.engine.tables["alias"]
    log = Log(server)
    done = asyncio.Event()

    async def ask() -> int:
        asked = 0
        while not done.is_set():
            for key in HOT:
                await bench.ask("alias", key)
                asked += 1
            await asyncio.sleep(0.005)
        return asked

    asking = [asyncio.ensure_future(ask()) for _ in range(10)]
    try:
        await change_all(bench, "new")
        await until(lambda: all(bench.held("alias", key) for key in [*HOT, *COLD]))
    finally:
        done.set()
    asked = sum(await asyncio.gather(*asking))
    sent = Counter(log.keys())
    assert asked > 10 * len(sent)
    assert max(sent.values()) <= 1 + table.invalidations["table"]
    for key in HOT:
        assert await bench.ask("alias", key) == (NOT_FOUND if key == b"zz@bulk" else Found(b"new"))


async def test_not_again_and_again(server: SqlServer, bench: FollowedEngine) -> None:
    """A table of which all is dropped again and again is left to those who ask."""
    for number in range(refetching.AT_ONCE):
        await change_all(bench, f"new {number}")
        await until(lambda: all(bench.held("alias", key) for key in HOT))
    log = Log(server)
    await change_all(bench, "newer")
    assert not bench.held("alias", b"z1@bulk")
    assert await bench.ask("alias", b"z1@bulk") == Found(b"newer")
    assert log.keys() == [b"z1@bulk"]


async def test_beside_lookups(bench: FollowedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight connections it takes two."""
    table = bench.engine.tables["alias"]
    on_their_way: list[int] = []
    fetch = table.origin.fetch

    def counted(sql_key: bytes, done: Done) -> None:
        on_their_way.append(len(table._flights))
        fetch(sql_key, done)

    monkeypatch.setattr(table.origin, "fetch", counted)
    await change_all(bench, "new")
    await until(lambda: all(bench.held("alias", key) for key in [*HOT, *COLD]))
    assert len(on_their_way) == len(HOT) + len(COLD)
    assert max(on_their_way) == 2
