"""Changes that few databases see, each of which once left an outdated answer in memory for a day."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mailmapd.cache.table_cache import ABSENCE
from mailmapd.changes import feed, fence, followed_host, reverse
from mailmapd.changes.catalog import Catalog, Rows, ask_for_catalog, read_catalog
from mailmapd.changes.feed import Feed
from mailmapd.changes.selection import Selection
from mailmapd.changes.touched import Touched
from mailmapd.databases.host_list import parse_hosts
from mailmapd.databases.mysql.binlog import stream
from mailmapd.databases.mysql.binlog.events import Event, Heartbeat, TransactionEnded
from mailmapd.databases.mysql.binlog.session import CannotFollow, Place, Session, open_session
from mailmapd.databases.mysql.opener import MysqlOpener
from mailmapd.databases.settings import ChangesSettings, MysqlSettings
from mailmapd.engine.outcome import Outcome
from mailmapd.engine.table import Table
from mailmapd.errors import DatabaseUnavailable
from mailmapd.model import NOT_FOUND, Found
from support.followed import PASSWORD, REPLICA
from support.followed_engine import BOTH, FollowedEngine, following
from support.mariadb import MariaDB
from support.polling import until
from support.settled import feed_is_settled, is_settled
from support.sql_server import SqlServer

pytestmark = [pytest.mark.servers, pytest.mark.root]

SECONDS = 20.0


class Case(NamedTuple):
    """A query over tables in the schema `T`, the keys that are known, and what changes then."""

    name: str
    tables: str
    query: str
    keys: Sequence[str]
    change: str


ALIAS = (
    "CREATE TABLE T.alias (address VARCHAR(99) PRIMARY KEY, goto TEXT, active INT DEFAULT 1);"
    "INSERT INTO T.alias (address, goto) VALUES ('a@x', 'one'), ('b@x', 'two');"
)
QUERY = "SELECT goto FROM T.alias WHERE address = '%s'"
WRITING = (
    "CREATE FUNCTION T.f() RETURNS INT MODIFIES SQL DATA"
    " BEGIN UPDATE T.alias SET goto = 'by f'; RETURN 1; END;"
)
CHILD = (
    "CREATE TABLE T.d (`id)` INT PRIMARY KEY); INSERT INTO T.d VALUES (1);"
    "CREATE TABLE T.alias (address VARCHAR(99) PRIMARY KEY, goto TEXT, `d)` INT,"
    " FOREIGN KEY (`d)`) REFERENCES T.d (`id)`) ON DELETE CASCADE);"
    "INSERT INTO T.alias VALUES ('a@x', 'one', 1);"
)
MANY = ", ".join(f"({number})" for number in range(2, 2500))

CASES = [
    Case("a comment before", ALIAS, QUERY, ["a@x"], "# emptied\nTRUNCATE TABLE T.alias"),
    Case("a comment behind", ALIAS, QUERY, ["a@x"], "TRUNCATE TABLE T.alias-- emptied\n"),
    Case(
        "a function in a SELECT",
        ALIAS + WRITING,
        QUERY,
        ["a@x"],
        "SET SESSION binlog_format = 'MIXED'; SELECT T.f()",
    ),
    Case(
        "a function in a DO",
        ALIAS + WRITING,
        QUERY,
        ["a@x"],
        "SET SESSION binlog_format = 'STATEMENT'; DO T.f()",
    ),
    Case(
        "a view that is swapped",
        ALIAS + "CREATE VIEW T.v AS SELECT address, goto FROM T.alias WHERE active = 1;"
        "CREATE VIEW T.w AS SELECT address, goto FROM T.alias WHERE active = 0;",
        "SELECT goto FROM T.v WHERE address = '%s'",
        ["a@x"],
        "USE T; RENAME TABLE v TO u, w TO v",
    ),
    Case(
        "a key to its own table",
        "CREATE TABLE T.alias (address VARCHAR(99) PRIMARY KEY, goto TEXT, parent VARCHAR(99),"
        " FOREIGN KEY (parent) REFERENCES T.alias (address) ON DELETE CASCADE);"
        "INSERT INTO T.alias VALUES ('a@x', 'one', NULL), ('b@x', 'two', 'a@x'), ('c@x', '3', 'b@x');",
        QUERY,
        ["a@x", "b@x", "c@x"],
        "DELETE FROM T.alias WHERE address = 'a@x'",
    ),
    Case(
        "keys in a circle",
        "CREATE TABLE T.o (id INT PRIMARY KEY, alias INT);"
        "CREATE TABLE T.alias (address VARCHAR(99) PRIMARY KEY, goto TEXT, id INT UNIQUE, o INT,"
        " FOREIGN KEY (o) REFERENCES T.o (id) ON DELETE CASCADE);"
        "ALTER TABLE T.o ADD FOREIGN KEY (alias) REFERENCES T.alias (id) ON DELETE CASCADE;"
        "INSERT INTO T.alias VALUES ('a@x', 'one', 1, NULL); INSERT INTO T.o VALUES (1, 1);"
        "INSERT INTO T.alias VALUES ('b@x', 'two', 2, 1);",
        QUERY,
        ["a@x", "b@x"],
        "DELETE FROM T.alias WHERE address = 'a@x'",
    ),
    Case("a column with a parenthesis", CHILD, QUERY, ["a@x"], "DELETE FROM T.d"),
    Case(
        "a parent after very many",
        CHILD,
        QUERY,
        ["a@x"],
        f"START TRANSACTION; INSERT INTO T.d VALUES {MANY}; DELETE FROM T.d WHERE `id)` = 1; COMMIT",
    ),
    Case(
        "two rows that lead to each other",
        "CREATE TABLE T.m (address VARCHAR(99) PRIMARY KEY, goto TEXT, plan INT);"
        "CREATE TABLE T.p (id INT PRIMARY KEY, policy INT); CREATE TABLE T.o (id INT PRIMARY KEY, active INT);"
        "INSERT INTO T.m VALUES ('a@x', 'one', 1); INSERT INTO T.p VALUES (1, 7); INSERT INTO T.o VALUES (7, 1);",
        "SELECT m.goto FROM T.m, T.p, T.o WHERE m.address = '%s' AND m.plan = p.id AND p.policy = o.id"
        " AND o.active = 1",
        ["a@x"],
        "START TRANSACTION; UPDATE T.p SET policy = NULL; DELETE FROM T.o; COMMIT",
    ),
    Case(
        "a number as the key",
        "CREATE TABLE T.u (id INT PRIMARY KEY, name TEXT, d INT); CREATE TABLE T.d (id INT, active INT);"
        "INSERT INTO T.u VALUES (5, 'five', 1); INSERT INTO T.d VALUES (1, 1);",
        "SELECT u.name FROM T.u, T.d WHERE u.id = '%s' AND u.d = d.id AND d.active = 1",
        ["5", "05", "5.0", "5abc"],
        "UPDATE T.d SET active = 0",
    ),
    Case(
        "a number between",
        "CREATE TABLE T.u (id INT PRIMARY KEY); CREATE TABLE T.w (k VARCHAR(20), goto TEXT);"
        "INSERT INTO T.u VALUES (5); INSERT INTO T.w VALUES ('5', 'five');",
        "SELECT w.goto FROM T.u, T.w WHERE u.id = '%s' AND w.k = u.id",
        ["5", "05"],
        "UPDATE T.w SET goto = 'new'",
    ),
    Case(
        "a partition",
        "CREATE TABLE T.alias (address VARCHAR(99), goto TEXT, n INT) PARTITION BY RANGE (n)"
        " (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE);"
        "INSERT INTO T.alias VALUES ('a@x', 'one', 1);",
        "SELECT goto FROM T.alias PARTITION (p0) WHERE address = '%s'",
        ["a@x"],
        "UPDATE T.alias SET n = 50",
    ),
    Case(
        "text with separators",
        ALIAS,
        "SELECT goto FROM T.alias WHERE address = CONCAT_WS('@', '%u', '%d')",
        ["a@x"],
        "UPDATE T.alias SET goto = 'new'",
    ),
    Case(
        "a blank at the end",
        ALIAS,
        "SELECT goto FROM T.alias WHERE address = '%s '",
        ["a@x"],
        "UPDATE T.alias SET goto = 'new'",
    ),
    Case(
        "an accent that does not count",
        ALIAS.replace("TEXT,", "TEXT, kind VARCHAR(9) DEFAULT 'cafe',"),
        "SELECT goto FROM T.alias WHERE address = '%s' AND kind = 'café'",
        ["a@x"],
        "UPDATE T.alias SET goto = 'new'",
    ),
    Case(
        "an outer join in parentheses",
        "CREATE TABLE T.alias (address VARCHAR(99) PRIMARY KEY, goto TEXT, n INT, d INT);"
        "CREATE TABLE T.d (n INT, d INT); INSERT INTO T.alias VALUES ('a@x', 'one', 1, 0);",
        "SELECT goto FROM (T.alias a LEFT JOIN T.d d ON d.n = a.n) WHERE address = '%s'"
        " AND (d.d = a.d OR d.d IS NULL)",
        ["a@x"],
        "INSERT INTO T.d VALUES (1, 1)",
    ),
]

PLAIN = ALIAS.replace("T.", "") + CHILD.replace("T.alias", "child").replace("T.", "")
MODES = {
    "ANSI_QUOTES": "SET GLOBAL sql_mode = 'ANSI_QUOTES'",
    "no quotes": "SET GLOBAL sql_quote_show_create = OFF",
}


@asynccontextmanager
async def followed(
    server: SqlServer, folder: Path, queries: dict[str, str]
) -> AsyncIterator[FollowedEngine]:
    """Follow the server's log for these queries, without an audit that would mend anything."""
    changes = ChangesSettings(follow="yes", user=REPLICA, password=PASSWORD, audit=0)
    async with following(server, folder, changes, queries) as bench:
        await until(lambda: bench.database.lease.holds, seconds=SECONDS)
        yield bench


async def find_outdated(
    bench: FollowedEngine, name: str, keys: Sequence[str], change: str
) -> list[str]:
    """Have the keys of a table known, and return those that are outdated, and kept, when a change is over."""
    table = bench.engine.tables[name]
    assert table.watch is not None, name
    for key in keys:
        await _asked(table, key.encode())
        assert table.cache.peek(key.encode()) is not None
    await asyncio.to_thread(bench.server.run_sql, change)
    await bench.database.catch_up()
    found = []
    for key in keys:
        entry = table.cache.peek(key.encode())
        now = (await _asked(table, key.encode())).known
        later = time.monotonic() + table.cache.ordinary + 10
        if entry is not None and entry[1] > later and entry[0] != now:
            found.append(f"{key} is {now!r}, and kept as {entry[0]!r}")
    return found


async def _asked(table: Table, key: bytes) -> Outcome:
    later: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    table.renew(key, later.set_result)
    return await later


@BOTH
async def test_rare_changes(
    server: SqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No change leaves an outdated answer, however rarely anybody makes it."""
    monkeypatch.setattr(feed, "CATALOG_PAUSE", 0.01)
    server.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    server.run_sql("SET GLOBAL log_bin_trust_function_creators = ON")
    server.grant("mail", "p", "t")
    schemas = {case.name: f"rare{number}" for number, case in enumerate(CASES)}

    def placed(sql: str, case: Case) -> str:
        schema = schemas[case.name]
        return sql.replace("T.", f"{schema}.").replace("USE T", f"USE {schema}")

    try:
        for case in CASES:
            schema = schemas[case.name]
            server.run_sql(f"DROP DATABASE IF EXISTS {schema}; CREATE DATABASE {schema}")
            server.run_sql(placed(case.tables, case))
            for host in ("localhost", "127.0.0.1"):
                server.run_sql(f"GRANT SELECT, SHOW VIEW ON {schema}.* TO mail@'{host}'")
        queries = {schemas[case.name]: placed(case.query, case) for case in CASES}
        # One that reads the parents themselves, so that their rows are counted one by one
        queries["parents"] = placed("SELECT `id)` FROM T.d WHERE `id)` = '%s'", CASES[8])
        outdated: dict[str, list[str]] = {}
        async with followed(server, tmp_path, queries) as bench:
            for case in CASES:
                found = await find_outdated(
                    bench, schemas[case.name], case.keys, placed(case.change, case)
                )
                if found:
                    outdated[case.name] = found
        assert outdated == {}
    finally:
        for schema in schemas.values():
            server.run_sql(f"DROP DATABASE IF EXISTS {schema}")


@BOTH
@pytest.mark.parametrize("mode", MODES)
async def test_other_modes(server: SqlServer, tmp_path: Path, mode: str) -> None:
    """Where definitions are written otherwise foreign keys are found; a query that means something else is left out."""
    server.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    server.run_sql(PLAIN, database="t")
    server.grant("mail", "p", "t")
    server.run_sql(MODES[mode])
    queries = {
        "child": "SELECT goto FROM child WHERE address = '%s'",
        "quoted": "SELECT \"goto\" FROM alias WHERE address = '%s'",
    }
    try:
        async with followed(server, tmp_path, queries) as bench:
            assert await find_outdated(bench, "child", ["a@x"], "DELETE FROM t.d") == []
            assert bench.database.followed == (
                {"child"} if mode == "ANSI_QUOTES" else {"child", "quoted"}
            )
    finally:
        server.run_sql("SET GLOBAL sql_mode = DEFAULT, GLOBAL sql_quote_show_create = ON")


@BOTH
async def test_altered_while_the_catalog_is_read(
    server: SqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table whose columns change places between the catalog and the log is not read by the old places."""
    read = read_catalog
    server.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    server.run_sql(
        "CREATE TABLE alias (address VARCHAR(99), goto VARCHAR(99));"
        "INSERT INTO alias VALUES ('a@x', 'one')",
        database="t",
    )
    server.grant("mail", "p", "t")
    altered = False

    async def read_and_alter(rows: Rows) -> Catalog:
        nonlocal altered
        found = await read(rows)
        if not altered:
            altered = True
            await asyncio.to_thread(
                server.run_sql, "ALTER TABLE t.alias MODIFY goto VARCHAR(99) FIRST"
            )
        return found

    monkeypatch.setattr("mailmapd.changes.catalog.read_catalog", read_and_alter)
    query = "SELECT goto FROM alias WHERE address = '%s'"
    async with followed(server, tmp_path, {"alias": query}) as bench:
        await bench.database.catch_up()
        assert await find_outdated(bench, "alias", ["a@x"], "UPDATE t.alias SET goto = 'new'") == []


async def test_the_catalog_before_the_statement_is_visible(
    server: SqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After DDL the catalog is read when the statement is visible: until then MySQL says what the table was."""
    read = read_catalog
    visible = fence.wait_until_visible
    order: list[str] = []

    async def reading(rows: Rows) -> Catalog:
        order.append("read")
        return await read(rows)

    async def waiting(session: Session, place: Place) -> None:
        await visible(session, place)
        order.append("visible")

    server.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    server.run_sql(PLAIN, database="t")
    server.grant("mail", "p", "t")
    monkeypatch.setattr("mailmapd.changes.catalog.read_catalog", reading)
    monkeypatch.setattr(followed_host, "wait_until_visible", waiting)
    async with followed(
        server, tmp_path, {"alias": "SELECT goto FROM alias WHERE address = '%s'"}
    ) as bench:
        await asyncio.to_thread(server.run_sql, "CREATE TABLE t.unrelated (a INT)")
        await until(lambda: len(order) == 3, seconds=SECONDS)
        await bench.database.catch_up()
    assert order == ["read", "visible", "read"]


async def test_a_foreign_key_that_is_new(
    server: SqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a new foreign key deletes before the catalog has been read again is not kept."""
    read = read_catalog
    go_on = asyncio.Event()
    go_on.set()

    async def late(rows: Rows) -> Catalog:
        await go_on.wait()
        return await read(rows)

    server.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    server.run_sql(
        "CREATE TABLE d (id INT PRIMARY KEY); CREATE TABLE alias (address VARCHAR(99), goto TEXT, d INT);"
        "INSERT INTO d VALUES (1); INSERT INTO alias VALUES ('a@x', 'one', 1);"
        "CREATE TABLE mark (address VARCHAR(99))",
        database="t",
    )
    server.grant("mail", "p", "t")
    monkeypatch.setattr("mailmapd.changes.catalog.read_catalog", late)
    query = "SELECT goto FROM alias WHERE address = '%s'"
    mark = "SELECT address FROM mark WHERE address = '%s'"
    async with followed(server, tmp_path, {"alias": query, "mark": mark}) as bench:
        table = bench.engine.tables["alias"]
        go_on.clear()
        await asyncio.to_thread(
            server.run_sql,
            "ALTER TABLE t.alias ADD FOREIGN KEY (d) REFERENCES t.d (id) ON DELETE CASCADE",
        )
        async with asyncio.timeout(SECONDS):  # the statement is heard of, and behind the fence
            while feed_is_settled(bench.database.feeds[0]) or table.cache.peek(b"a@x") is None:
                await _asked(table, b"a@x")
                await asyncio.sleep(0.01)
        rows = bench.database.feeds[0].counts["row"]
        await asyncio.to_thread(
            server.run_sql, "DELETE FROM t.d; INSERT INTO t.mark VALUES ('mark')"
        )
        await until(lambda: bench.database.feeds[0].counts["row"] > rows, seconds=SECONDS)
        go_on.set()
        await bench.database.catch_up()
        kept = table.cache.peek(b"a@x")  # or it was asked for again
        assert kept is None or kept[0] is ABSENCE


JOINED = "SELECT goto FROM alias, d WHERE address = '%s' AND n = id AND d.active = 1"
TWO = (
    "CREATE TABLE d (id INT PRIMARY KEY, active INT); CREATE TABLE alias (address VARCHAR(99), goto TEXT, n INT);"
    "INSERT INTO d VALUES (1, 1); INSERT INTO alias VALUES ('a@x', 'one', 1)"
)


async def test_cut_in_a_reverse_query(
    server: SqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reverse query whose connection ends is asked again when the feed goes on without a gap."""
    server.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    server.run_sql(TWO, database="t")
    server.grant("mail", "p", "t")
    asked = 0

    async def cut(*given: Any) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise DatabaseUnavailable("cut")
        await reverse.ask(*given)

    monkeypatch.setattr(fence, "ask", cut)
    async with followed(server, tmp_path, {"alias": JOINED}) as bench:
        assert await find_outdated(bench, "alias", ["a@x"], "UPDATE t.d SET active = 0") == []
    assert asked > 1


@pytest.mark.parametrize(
    ("server", "is_limited"),
    [("MariaDB", True), ("MySQL 9", True), ("MariaDB", False)],
    indirect=["server"],
)
async def test_reverse_query_that_takes_long(
    server: SqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_limited: bool
) -> None:
    """A reverse query that takes long drops all of its table, once, and the feed goes on.

    The server ends it; where it does not, the connection is given up, and it is not asked again.
    """
    server.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    server.run_sql(TWO, database="t")
    server.grant("mail", "p", "t")
    if not is_limited:
        monkeypatch.setattr(Session, "limited", lambda _, select, __: select)
        monkeypatch.setattr(reverse, "ANSWER", 0.0)
    asked = 0

    async def counted(*given: Any) -> None:
        nonlocal asked
        asked += 1
        await reverse.ask(*given)

    monkeypatch.setattr(fence, "ask", counted)
    async with followed(server, tmp_path, {"alias": JOINED}) as bench:
        await until(lambda: bench.database.lease.holds)
        assert await bench.ask("alias", b"a@x") == Found(b"one")
        with server.connect("t") as connection, connection.cursor() as cursor:
            cursor.execute("LOCK TABLES alias WRITE, d WRITE")  # and it waits for that
            cursor.execute("UPDATE d SET active = 0")
            await until(lambda: not bench.held("alias", b"a@x"), seconds=10.0)
            if is_limited:
                assert bench.database.lease.holds
                assert bench.database.epoch == 1
            cursor.execute("UNLOCK TABLES")
        await until(lambda: bench.database.lease.holds and is_settled(bench.database))
        assert await bench.ask("alias", b"a@x") == NOT_FOUND
    assert asked == 1 if is_limited else asked <= 2


async def test_catalog_that_takes_long(mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server's tables are may take longer than a lookup; where it takes too long, that is said."""
    mariadb.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    mariadb.run_sql(TWO, database="t")
    mariadb.grant("mail", "p", "t")
    settings = MysqlSettings(
        hosts=(f"unix:{mariadb.socket}",), user="mail", password="p", query_timeout=0.001
    )
    address = parse_hosts(settings.hosts)[0]
    session = await open_session(MysqlOpener(settings), address)
    try:
        assert (await ask_for_catalog(session)).columns("t", "alias") is not None
        monkeypatch.setattr("mailmapd.changes.catalog.CATALOG_ANSWER", 1e-6)
        with pytest.raises(CannotFollow, match="takes longer than"):
            await ask_for_catalog(session)
    finally:
        session.close()


async def test_a_defect(server: SqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a defect of ours nothing goes on without a gap: what it kept from being forgotten is believed no more."""
    server.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    server.run_sql(PLAIN, database="t")
    server.grant("mail", "p", "t")
    add = Selection.add
    broken = False

    def break_once(selection: Selection, event: Event, touched: Touched) -> bool:
        nonlocal broken
        if isinstance(event, TransactionEnded) and not broken:
            broken = True
            raise RuntimeError("a defect")
        return add(selection, event, touched)

    monkeypatch.setattr(Selection, "add", break_once)
    monkeypatch.setattr(stream, "_TOGETHER", 1.0)  # the end of a transaction with its rows
    query = "SELECT goto FROM alias WHERE address = '%s'"
    async with followed(server, tmp_path, {"alias": query}) as bench:
        assert await find_outdated(bench, "alias", ["a@x"], "UPDATE t.alias SET goto = 'new'") == []
    assert broken


@pytest.mark.parametrize("server", ["MySQL 9"], indirect=True)
async def test_a_tag(server: SqlServer, tmp_path: Path) -> None:
    """A transaction whose identifier cannot be read ends the feed: nobody could tell when it is visible."""
    server.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    server.run_sql(PLAIN, database="t")
    server.grant("mail", "p", "t")
    query = "SELECT goto FROM alias WHERE address = '%s'"
    try:
        async with followed(server, tmp_path, {"alias": query}) as bench:
            [its_feed] = bench.database.feeds
            server.run_sql(
                "SET gtid_next = 'AUTOMATIC:tag'; UPDATE t.alias SET goto = 'tagged';"
                "SET gtid_next = 'AUTOMATIC'"
            )
            await until(lambda: "tag" in its_feed.reason, seconds=SECONDS)
            assert not bench.database.lease.holds
    finally:
        server.run_sql("RESET BINARY LOGS AND GTIDS")


async def test_this_process_stood_still(
    server: SqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read after this process stood still was sent long ago: it proves nothing of now."""
    server.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    server.run_sql(PLAIN, database="t")
    server.grant("mail", "p", "t")
    query = "SELECT goto FROM alias WHERE address = '%s'"
    async with followed(server, tmp_path, {"alias": query}) as bench:
        [its_feed] = bench.database.feeds
        table = bench.engine.tables["alias"]
        await _asked(table, b"a@x")
        assert isinstance(its_feed, Feed)
        heard = its_feed.last_heard
        later = time.monotonic() + 3600
        distrusted: list[float] = []
        monkeypatch.setattr(its_feed._told, "doubt", distrusted.append)
        monkeypatch.setattr(its_feed, "_clock", lambda: later)
        its_feed._hear([Heartbeat(4)])  # before anybody looks whether the server was silent
        await until(lambda: not bench.database.lease.holds, seconds=SECONDS)
        assert distrusted
        assert distrusted[0] < heard + 3
