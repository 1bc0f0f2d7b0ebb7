"""Tables whose database's log is followed, on a real server: what changes is known at once, and the rest stays."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mailmapd.cache.table_cache import ABSENCE
from mailmapd.changes import audit, feed, fence, followed_host, reverse
from mailmapd.changes.catalog import Catalog, Rows, read_catalog
from mailmapd.changes.fence import Pending
from mailmapd.changes.progress import Progress
from mailmapd.databases.host_list import parse_hosts
from mailmapd.databases.mysql.binlog.session import Session, open_session
from mailmapd.databases.mysql.opener import MysqlOpener
from mailmapd.databases.settings import ChangesSettings, MysqlSettings
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.outcome import Known, Outcome
from mailmapd.errors import DatabaseError, DatabaseUnavailable
from mailmapd.model import NOT_FOUND, Answer, Found
from support.followed import PASSWORD, REPLICA
from support.followed_engine import BOTH, LONGEST, FollowedEngine, following
from support.polling import until
from support.settled import is_settled
from support.sql_server import SqlServer

pytestmark = [pytest.mark.servers, pytest.mark.root]

SOON = 0.1  # seconds in which a change is known
TRIES = 20  # of which one must be as quick as that: the machine may have other work
UPDATES = int(os.environ.get("MAILMAPD_RACE_UPDATES", "500"))

SCHEMA = """
CREATE TABLE domain (domain VARCHAR(99) PRIMARY KEY, active INT NOT NULL DEFAULT 1);
CREATE TABLE alias (address VARCHAR(99) PRIMARY KEY, goto TEXT, domain VARCHAR(99), hits INT DEFAULT 0,
  KEY (domain));
CREATE TABLE parent (name VARCHAR(99) PRIMARY KEY);
CREATE TABLE child (name VARCHAR(99) PRIMARY KEY, parent VARCHAR(99),
  FOREIGN KEY (parent) REFERENCES parent (name) ON DELETE CASCADE ON UPDATE CASCADE);
"""
TABLES = {
    "alias": "SELECT goto FROM alias WHERE address = '%s'",
    "active": "SELECT alias.goto FROM alias, domain WHERE alias.address = '%s' AND alias.domain ="
    " domain.domain AND domain.active = 1",
    "of_domain": "SELECT GROUP_CONCAT(goto) FROM alias WHERE domain = '%d'",
    "of_local": "SELECT MAX(goto) FROM alias WHERE address LIKE CONCAT('%u', '@%%') AND address ="
    " CONCAT('%u', '@', domain)",
    "child": "SELECT parent FROM child WHERE name = '%s'",
    "clock": "SELECT goto FROM alias WHERE address = '%s' AND NOW() > '2020-01-01'",
}


@pytest.fixture
async def bench(server: SqlServer, tmp_path: Path) -> AsyncIterator[FollowedEngine]:
    """A database with a few rows, followed by an account of its own."""
    server.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    server.run_sql(SCHEMA, database="t")
    server.run_sql(
        "INSERT INTO domain VALUES ('example.com', 1), ('other.example', 1);"
        "INSERT INTO alias VALUES ('a@example.com', 'one', 'example.com', 0),"
        " ('b@example.com', 'two', 'example.com', 0), ('a@other.example', 'three', 'other.example', 0);"
        "INSERT INTO parent VALUES ('p'), ('q'); INSERT INTO child VALUES ('c', 'p'), ('d', 'q')",
        database="t",
    )
    server.grant("mail", "p", "t")
    changes = ChangesSettings(follow="yes", user="replica", password="follow it")
    async with following(server, tmp_path, changes, TABLES) as made:
        await until(lambda: made.database.lease.holds)
        yield made


async def test_followed_tables(bench: FollowedEngine) -> None:
    """Every table whose query can be followed is, and the others say why not."""
    [feed] = bench.database.feeds
    assert bench.database.followed == set(TABLES) - {"clock"}
    assert feed.readers.not_followed == {"clock": "its answer depends on the function NOW()"}
    assert bench.engine.tables["clock"].watch is None
    assert bench.engine.tables["alias"].watch is bench.database.lease


async def test_kept_for_long(bench: FollowedEngine) -> None:
    """What is followed is kept for watched_ttl, found or not, and everything else for ttl."""
    await bench.ask("alias", b"a@example.com")
    await bench.ask("alias", b"nobody@example.com")
    await bench.ask("alias", b"A@EXAMPLE.COM")
    await bench.ask("clock", b"a@example.com")
    await bench.ask("alias", "ä@example.com".encode())
    day = time.monotonic() + 86000 * 0.9
    peek = bench.engine.tables["alias"].cache.peek
    for key in (b"a@example.com", b"nobody@example.com"):
        entry = peek(key)
        assert entry is not None
        assert entry[1] > day
    for entry in (
        bench.engine.tables["clock"].cache.peek(b"a@example.com"),
        peek("ä@example.com".encode()),
    ):
        assert entry is not None
        assert entry[1] < time.monotonic() + 301


@BOTH
async def test_rows(bench: FollowedEngine) -> None:
    """An inserted, changed, renamed or deleted row is known at once, and nothing else is forgotten for it."""
    sql = bench.server.run_sql
    assert await bench.ask("alias", b"new@example.com") == NOT_FOUND
    assert await bench.ask("alias", b"a@example.com") == Found(b"one")
    assert await bench.ask("alias", b"b@example.com") == Found(b"two")
    sql("INSERT INTO t.alias VALUES ('New@example.com', 'here', 'example.com', 0)")
    await bench.known("alias", b"new@example.com", Found(b"here"))
    sql("UPDATE t.alias SET goto = 'changed' WHERE address = 'a@example.com'")
    await bench.known("alias", b"a@example.com", Found(b"changed"))
    sql("UPDATE t.alias SET address = 'z@example.com' WHERE address = 'a@example.com'")
    await bench.known("alias", b"a@example.com", NOT_FOUND)
    await bench.known("alias", b"z@example.com", Found(b"changed"))
    assert bench.held("alias", b"b@example.com")
    sql("DELETE FROM t.alias WHERE address = 'b@example.com'")
    await bench.known("alias", b"b@example.com", NOT_FOUND)


@BOTH
async def test_how_soon(bench: FollowedEngine) -> None:
    """A change is known within a tenth of a second of the end of its statement."""
    quickest = float("inf")
    for number in range(TRIES):
        key = f"soon{number}@example.com"
        async with asyncio.timeout(
            LONGEST
        ):  # an answer that comes while changes are heard of is not kept
            while not bench.held("alias", key.encode()):
                assert await bench.ask("alias", key.encode()) == NOT_FOUND
        bench.server.run_sql("INSERT INTO t.alias (address, goto) VALUES (%s, 'here')", key)
        quickest = min(quickest, await bench.known("alias", key.encode(), Found(b"here")))
        if quickest < SOON:
            break
    assert quickest < SOON


async def test_columns_that_do_not_matter(bench: FollowedEngine) -> None:
    """A change of a column that no query mentions forgets nothing."""
    await bench.ask("alias", b"a@example.com")
    bench.server.run_sql("UPDATE t.alias SET hits = hits + 1")
    bench.server.run_sql("INSERT INTO t.alias (address, goto) VALUES ('mark', '1')")
    await bench.known("alias", b"mark", Found(b"1"))
    assert bench.held("alias", b"a@example.com")


@BOTH
async def test_other_tables(bench: FollowedEngine) -> None:
    """A row of a joined table drops the keys that the reverse query finds; a domain's rows drop those of the domain."""
    sql = bench.server.run_sql
    assert await bench.ask("active", b"a@example.com") == Found(b"one")
    assert await bench.ask("active", b"a@other.example") == Found(b"three")
    assert await bench.ask("of_domain", b"x@example.com") == Found(b"one,two")
    assert await bench.ask("of_domain", b"x@other.example") == Found(b"three")
    sql("UPDATE t.domain SET active = 0 WHERE domain = 'example.com'")
    await bench.known("active", b"a@example.com", NOT_FOUND)
    assert bench.held("active", b"a@other.example")
    assert bench.engine.tables["active"].invalidations["table"] == 0
    sql("DELETE FROM t.alias WHERE address = 'b@example.com'")
    await bench.known("of_domain", b"x@example.com", Found(b"one"))
    assert bench.held("of_domain", b"other.example")
    assert bench.database.epoch == 1


@BOTH
async def test_cascades(bench: FollowedEngine) -> None:
    """Rows that a foreign key deletes or changes are in no log: their readers are forgotten with the parent's row."""
    sql = bench.server.run_sql
    assert await bench.ask("child", b"c") == Found(b"p")
    assert await bench.ask("child", b"d") == Found(b"q")
    sql("DELETE FROM t.parent WHERE name = 'p'")
    await bench.known("child", b"c", NOT_FOUND)
    sql("UPDATE t.parent SET name = 'r' WHERE name = 'q'")
    await bench.known("child", b"d", Found(b"r"))


@BOTH
async def test_ddl(bench: FollowedEngine) -> None:
    """Tables that are emptied, altered, swapped or dropped are read anew, and go on being followed."""
    sql = bench.server.run_sql
    assert await bench.ask("alias", b"a@example.com") == Found(b"one")
    sql(
        "CREATE TABLE t.other LIKE t.alias;"
        "INSERT INTO t.other VALUES ('a@example.com', 'swapped', 'example.com', 0);"
        "RENAME TABLE t.alias TO t.old, t.other TO t.alias"
    )
    await bench.known("alias", b"a@example.com", Found(b"swapped"))
    sql("ALTER TABLE t.alias ADD COLUMN first INT FIRST")
    sql("UPDATE t.alias SET goto = 'altered' WHERE address = 'a@example.com'")
    await bench.known("alias", b"a@example.com", Found(b"altered"))
    await until(lambda: bench.engine.tables["alias"].watch is not None)
    sql("TRUNCATE TABLE t.alias")
    await bench.known("alias", b"a@example.com", NOT_FOUND)


async def test_while_the_catalog_is_read(
    bench: FollowedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the catalog is read after DDL other changes are known and kept, and it is not read without a pause."""
    read = read_catalog
    readings = 0
    go_on = asyncio.Event()

    async def slow(rows: Rows) -> Catalog:
        nonlocal readings
        readings += 1
        await go_on.wait()
        return await read(rows)

    monkeypatch.setattr("mailmapd.changes.catalog.read_catalog", slow)
    sql = bench.server.run_sql
    sql("CREATE TABLE t.unrelated (a INT)")
    await until(lambda: readings == 1)
    sql("UPDATE t.alias SET goto = 'meanwhile' WHERE address = 'a@example.com'")
    await bench.known("alias", b"a@example.com", Found(b"meanwhile"))
    async with asyncio.timeout(30):  # the fence passes
        while not bench.held("alias", b"a@example.com"):
            await bench.ask("alias", b"a@example.com")
            await asyncio.sleep(0.005)
    go_on.set()
    begun = time.monotonic()
    for number in range(20):
        sql(f"ALTER TABLE t.unrelated ADD COLUMN a{number} INT")
        await asyncio.sleep(0.05)
    assert readings <= 2 + (time.monotonic() - begun) / feed.CATALOG_PAUSE
    assert bench.database.lease.holds


@BOTH
async def test_rolled_back(bench: FollowedEngine) -> None:
    """What is rolled back is never known, and a savepoint's part neither."""
    assert await bench.ask("alias", b"a@example.com") == Found(b"one")
    with bench.server.connect("t") as connection, connection.cursor() as cursor:
        cursor.execute("START TRANSACTION")
        cursor.execute("UPDATE alias SET goto = 'no' WHERE address = 'a@example.com'")
        cursor.execute("ROLLBACK")
    bench.server.run_sql("INSERT INTO t.alias (address, goto) VALUES ('mark', '1')")
    await bench.known("alias", b"mark", Found(b"1"))
    assert await bench.ask("alias", b"a@example.com") == Found(b"one")


async def test_in_bulk(bench: FollowedEngine) -> None:
    """A transaction that changes very many rows forgets the table's readers at once, and lookups go on meanwhile."""
    rows = ",".join(f"('u{number}@bulk', 'old', 'bulk', 0)" for number in range(20_000))
    bench.server.run_sql(f"INSERT INTO t.alias VALUES {rows}")
    for number in (0, 10_000, 19_999):
        assert await bench.ask("alias", b"u%d@bulk" % number) == Found(b"old")
    update = asyncio.to_thread(bench.server.run_sql, "UPDATE t.alias SET goto = 'new'")
    updating = asyncio.ensure_future(update)
    longest, last = 0.0, time.thread_time()  # what others take of the processor is not the loop's
    read = False
    async with asyncio.timeout(60):
        while not read:
            await bench.ask("child", b"d")
            await asyncio.sleep(0)
            read = await bench.ask("alias", b"u19999@bulk") == Found(b"new")
            now = time.thread_time()
            longest, last = max(longest, now - last), now
    await updating
    for number in (0, 10_000, 19_999):
        await bench.known("alias", b"u%d@bulk" % number, Found(b"new"))
    assert longest < 0.5


@BOTH
async def test_the_race(bench: FollowedEngine) -> None:
    """Rows that are asked for again as soon as their change is heard of are never kept as they were.

    The log goes on in another file after each few of them.
    """
    keys = [f"k{number}@race.example" for number in range(UPDATES)]
    table = bench.engine.tables["alias"]
    answers: list[Outcome] = []

    def ask_again(invalidation: Invalidation) -> None:
        for key in (invalidation.keys or ()) if invalidation.table == "alias" else ():
            table.ask(key, answers.append)

    def write() -> None:
        with bench.server.connect("t") as connection, connection.cursor() as cursor:
            for key in keys:
                cursor.execute("UPDATE alias SET goto = 'new' WHERE address = %s", (key,))
                time.sleep(0.0005)  # else more is asked for than the connections carry

    for start in range(0, UPDATES, 1000):
        rows = ", ".join(f"('{key}', 'old', 'race', 0)" for key in keys[start : start + 1000])
        bench.server.run_sql(f"INSERT INTO t.alias VALUES {rows}")
    await _outdated(bench, [])
    bench.server.run_sql("SET GLOBAL max_binlog_size = 4096")
    bench.engine.watchers.append(ask_again)
    try:
        await asyncio.to_thread(write)
    finally:
        bench.server.run_sql("SET GLOBAL max_binlog_size = DEFAULT")
    outdated = await _outdated(bench, [key.encode() for key in keys])
    print(f"{len(answers)} answers of {UPDATES} changed rows, {len(outdated)} outdated")
    assert len(answers) >= UPDATES
    assert outdated == []


async def _outdated(bench: FollowedEngine, keys: list[bytes]) -> list[str]:
    """Return what is still kept wrongly when all that was written has been forgotten for the last time."""
    async with asyncio.timeout(LONGEST):
        while True:
            with suppress(DatabaseError):  # its log is behind
                await bench.database.catch_up()
                break
    rows = dict(bench.server.run_sql("SELECT address, goto FROM t.alias"))
    found = []
    for key in keys:
        kept = bench.engine.tables["alias"].cache.peek(key)
        row = rows.get(key.decode())
        if kept is not None and kept[0] != (ABSENCE if row is None else row.encode()):
            found.append(f"{key.decode()} is {row}, and kept as {kept[0]!r}")
    return found


@pytest.mark.parametrize("way", ["fence", "in another file", "no fence"])
async def test_visible_late(
    bench: FollowedEngine, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A row that can be read half a second after its event (semi-synchronous replication) is not kept as it was.

    Also where the log goes on in another file before it can be read.
    """
    sql = bench.server.run_sql
    sql(
        "SET GLOBAL rpl_semi_sync_master_timeout = 500, GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_SYNC',"
        " GLOBAL rpl_semi_sync_master_enabled = ON"
    )
    if way == "no fence":

        async def at_once(_: Session, pending: list[Pending], *__: object) -> int:
            return len(pending)

        monkeypatch.setattr(followed_host, "passed", at_once)
    key = b"late@example.com"
    assert await bench.ask("alias", key) == NOT_FOUND
    try:
        writing = [
            asyncio.ensure_future(
                asyncio.to_thread(
                    sql, "INSERT INTO t.alias (address, goto) VALUES ('late@example.com', 'there')"
                )
            )
        ]
        early = 0
        while not writing[0].done():
            early += await bench.ask("alias", key) == NOT_FOUND
            await asyncio.sleep(0.002)
            if early == 10 and way == "in another file":
                writing.append(asyncio.ensure_future(asyncio.to_thread(sql, "FLUSH BINARY LOGS")))
        await asyncio.gather(*writing)
    finally:
        sql("SET GLOBAL rpl_semi_sync_master_enabled = OFF")
    assert early
    assert await _outdated(bench, [key]) == (
        ["late@example.com is there, and kept as <Absence.ABSENCE: 0>"] if way == "no fence" else []
    )


async def test_reverse_queries_behind_the_fence(
    bench: FollowedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which keys a row matters to is asked when it can be read, and with it what was changed before it."""
    sql = bench.server.run_sql
    active: list[int] = []

    async def asking(*given: Any) -> None:
        [[value]] = await asyncio.to_thread(
            sql, "SELECT active FROM t.domain WHERE domain = 'example.com'"
        )
        active.append(value)
        await reverse.ask(*given)

    monkeypatch.setattr(fence, "ask", asking)
    assert await bench.ask("active", b"a@example.com") == Found(b"one")
    sql(
        "SET GLOBAL rpl_semi_sync_master_timeout = 200, GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_SYNC',"
        " GLOBAL rpl_semi_sync_master_enabled = ON"
    )
    try:
        await asyncio.to_thread(sql, "UPDATE t.domain SET active = 0 WHERE domain = 'example.com'")
    finally:
        sql("SET GLOBAL rpl_semi_sync_master_enabled = OFF")
    await bench.known("active", b"a@example.com", NOT_FOUND)
    assert active == [0]


async def _asked_and_held_back(
    bench: FollowedEngine, monkeypatch: pytest.MonkeyPatch, landed: asyncio.Event
) -> asyncio.Future[Answer]:
    """Ask for a row, and have what the database says of it now come when it has `landed`."""
    origin = bench.engine.tables["alias"].origin
    renew = origin.renew
    tasks: list[asyncio.Task[None]] = []

    def late(sql_key: bytes, done: Callable[[Known], None]) -> None:
        async def land(known: Known) -> None:
            await landed.wait()
            done(known)

        renew(sql_key, lambda known: tasks.append(asyncio.ensure_future(land(known))))

    with monkeypatch.context() as patch:
        patch.setattr(origin, "fetch", late)
        asked = asyncio.ensure_future(bench.ask("alias", b"a@example.com"))
        await until(lambda: bool(tasks))
    return asked


@pytest.mark.parametrize("cut", [True, False], ids=["cut loose", "kept"])
async def test_a_flight_from_before_the_feed(
    bench: FollowedEngine, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    """What was read before a feed began anew is answered, and not kept: nobody has heard what changed before that."""
    table = bench.engine.tables["alias"]
    landed = asyncio.Event()
    if not cut:
        monkeypatch.setattr(table, "cut_flights", lambda: None)
    [followed] = bench.database.feeds
    assert isinstance(followed, feed.Feed)
    lose, find_log = followed._lose, followed._host.find_log
    begins = asyncio.Event()

    def lose_for_good(reason: str) -> None:
        lose(reason)
        followed._forget_the_mark()

    async def find_log_later(session: Session) -> bool:
        await begins.wait()
        return await find_log(session)

    monkeypatch.setattr(followed, "_lose", lose_for_good)
    monkeypatch.setattr(followed._host, "find_log", find_log_later)
    bench.server.kill_connections(REPLICA)
    await until(lambda: not bench.database.lease.holds)
    asked = await _asked_and_held_back(bench, monkeypatch, landed)
    bench.server.run_sql("UPDATE t.alias SET goto = 'new' WHERE address = 'a@example.com'")
    begins.set()
    await until(lambda: bench.database.epoch == 2)
    landed.set()
    assert await asked == Found(b"one")
    wrong = "a@example.com is new, and kept as b'one'"
    assert await _outdated(bench, [b"a@example.com"]) == ([] if cut else [wrong])


@BOTH
@pytest.mark.parametrize("cut", [True, False], ids=["cut loose", "kept"])
async def test_a_flight_between_the_drops(
    bench: FollowedEngine, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    """What was read before a change and comes back after the fence is answered, and not kept."""
    table = bench.engine.tables["alias"]
    landed = asyncio.Event()
    if not cut:
        monkeypatch.setattr(table, "_drop", table.cache.drop)
    asked = await _asked_and_held_back(bench, monkeypatch, landed)
    bench.server.run_sql("UPDATE t.alias SET goto = 'new' WHERE address = 'a@example.com'")
    bench.server.run_sql("INSERT INTO t.alias (address, goto) VALUES ('before', '1')")
    await bench.known("alias", b"before", Found(b"1"))
    await until(lambda: is_settled(bench.database))
    landed.set()
    assert await asked == Found(b"one")
    wrong = "a@example.com is new, and kept as b'one'"
    assert await _outdated(bench, [b"a@example.com"]) == ([] if cut else [wrong])


async def test_lost_and_found(bench: FollowedEngine) -> None:
    """While the server is away nothing is proven: answers have the ordinary times; afterwards all is followed again."""
    await bench.ask("alias", b"a@example.com")
    bench.server.restart()
    await until(lambda: not bench.database.lease.holds)
    assert bench.engine.tables["alias"].watch is None
    entry = bench.engine.tables["alias"].cache.peek(b"a@example.com")
    assert entry is not None
    assert entry[1] < time.monotonic() + 301
    await until(lambda: bench.database.lease.holds)
    bench.server.run_sql("UPDATE t.alias SET goto = 'later' WHERE address = 'a@example.com'")
    await bench.known("alias", b"a@example.com", Found(b"later"))


@BOTH
async def test_killed(bench: FollowedEngine) -> None:
    """When the server ends the stream (KILL), what changes meanwhile is believed for the ordinary time at most."""
    assert await bench.ask("alias", b"a@example.com") == Found(b"one")
    bench.server.kill_connections(REPLICA)
    bench.server.run_sql("UPDATE t.alias SET goto = 'unheard' WHERE address = 'a@example.com'")
    await until(lambda: not bench.database.lease.holds)
    await until(lambda: bench.database.lease.holds)
    entry = bench.engine.tables["alias"].cache.peek(b"a@example.com")
    assert entry is None or entry[1] < time.monotonic() + 301
    await bench.known("alias", b"a@example.com", Found(b"unheard"))


async def test_half_dead(bench: FollowedEngine) -> None:
    """A server that is silent for three seconds is not believed in any longer."""
    bench.server.pause()
    try:
        await until(lambda: not bench.database.lease.holds)
    finally:
        bench.server.resume()
    await until(lambda: bench.database.lease.holds)


async def test_half_dead_at_the_fence(
    bench: FollowedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same of a server that falls silent while it is asked whether a change is visible."""

    async def passed(session: Session, pending: list[Pending], progress: Progress) -> int:
        bench.server.pause()
        return await fence.passed(session, pending, progress)

    monkeypatch.setattr(followed_host, "passed", passed)
    bench.server.run_sql("UPDATE t.alias SET goto = 'frozen' WHERE address = 'a@example.com'")
    try:
        await until(lambda: not bench.database.lease.holds)
    finally:
        monkeypatch.undo()
        bench.server.resume()
    await until(lambda: bench.database.lease.holds)
    await bench.known("alias", b"a@example.com", Found(b"frozen"))


async def test_a_question_without_an_answer(server: SqlServer) -> None:
    """A connection that does not answer a question ends, whatever else its server sends meanwhile."""
    settings = MysqlSettings(
        hosts=(f"unix:{server.socket}",), user=REPLICA, password=PASSWORD, dbname=""
    )
    [address] = parse_hosts(settings.hosts)
    session = await open_session(MysqlOpener(settings), address)
    with pytest.raises(DatabaseUnavailable, match=r"no answer for 0\.2 s"):
        await session.rows("SELECT SLEEP(5)", 1, 0.2)
    assert not session.is_open
    other = await open_session(MysqlOpener(settings), address)
    with pytest.raises(DatabaseError, match="not the columns that were asked for"):
        await other.rows("SELECT 1, 2", 1)
    with pytest.raises(DatabaseError, match="not one row, but 2"):
        await other.value("SELECT 1 UNION SELECT 2")
    other.close()


@pytest.mark.usefixtures("bench")
async def test_audit(
    server: SqlServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Answers are asked anew; one that is outdated though no log says so is found, and its table followed no more."""
    monkeypatch.setattr(audit, "PAUSE", 0.01)
    changes = ChangesSettings(follow="yes", user=REPLICA, password=PASSWORD, audit=200.0)
    async with following(server, tmp_path, changes, TABLES) as audited:
        await until(lambda: audited.database.lease.holds)
        alias, child = audited.engine.tables["alias"], audited.engine.tables["child"]

        async def ask() -> None:
            for number in range(10):
                await audited.ask("alias", b"a@example.com")
                await audited.ask("alias", b"nobody%d@example.com" % (number % 3))
                await audited.ask("child", b"d")

        with server.connect("t") as connection, connection.cursor() as cursor:
            for number in range(100):  # what the log says is never called outdated
                cursor.execute(
                    "UPDATE alias SET goto = %s WHERE address = 'a@example.com'", (f"v{number}",)
                )
                await ask()
                await asyncio.sleep(0.005)
            assert alias.audits["outdated"] == 0
            assert alias.audits["same"] > 10
            await audited.known("alias", b"a@example.com", Found(b"v99"))
            await audited.database.catch_up()
            assert await audited.ask("alias", b"a@example.com") == Found(b"v99")
            cursor.execute("SET sql_log_bin = 0")
            cursor.execute("UPDATE alias SET goto = 'unlogged' WHERE address = 'a@example.com'")
        async with asyncio.timeout(60):
            while not alias.audits["outdated"]:
                await ask()
                await asyncio.sleep(0.005)
        assert alias.watch is None
        assert child.watch is audited.database.lease
        assert child.audits["outdated"] == 0
        told = "table alias is not followed any more until the next reload"
        await until(lambda: told in caplog.text)
        entry = alias.cache.peek(b"a@example.com")
        assert entry is not None
        assert entry[1] < time.monotonic() + 301


async def test_many_tables_and_foreign_names(server: SqlServer, tmp_path: Path) -> None:
    """A database of many wide tables, one of them with a name outside ASCII, is followed as any other."""
    server.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t CHARACTER SET utf8mb4")
    server.run_sql(SCHEMA, database="t")
    columns = ", ".join(f"a_column_with_a_long_name_{number} INT" for number in range(60))
    server.run_sql(f"CREATE TABLE wide_0 ({columns}); CREATE TABLE `tälle` (a INT)", database="t")
    for number in range(1, 30):
        server.run_sql(f"CREATE TABLE wide_{number} LIKE wide_0", database="t")
    server.grant("mail", "p", "t")
    changes = ChangesSettings(follow="yes", user=REPLICA, password=PASSWORD)
    async with following(server, tmp_path, changes, TABLES) as bench:
        await until(lambda: bench.database.lease.holds)
        assert bench.engine.tables["child"].watch is not None
    server.run_sql("DROP DATABASE t")


async def test_without_a_privilege(server: SqlServer, tmp_path: Path) -> None:
    """An account that may not follow is told why once, and everything is as without."""
    server.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    server.run_sql(SCHEMA, database="t")
    server.grant("mail", "p", "t")
    async with following(server, tmp_path, ChangesSettings(), TABLES) as bench:
        [feed] = bench.database.feeds
        await until(lambda: "may not read the log" in feed.reason)
        assert not bench.database.lease.holds
        assert bench.engine.tables["alias"].watch is None
        assert await bench.ask("alias", b"a@example.com") == NOT_FOUND


async def test_found_again_while_keys_are_looked_for(
    server: SqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A feed that was lost goes on among changes without a pause, each of which is looked for among many keys.

    The last of them is always pending.

    And so does whoever notes where it goes on from later: the state file, a reload, the end of the daemon.
    """

    async def all_but_the_last(session: Session, pending: list[Pending], progress: Progress) -> int:
        return min(await fence.passed(session, pending, progress), len(pending) - 1)

    server.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    server.run_sql(
        f"{SCHEMA} CREATE TABLE alias_domain (alias_domain VARCHAR(99) PRIMARY KEY, target_domain VARCHAR(99));"
        "INSERT INTO alias VALUES ('a@example.com', '0', 'example.com', 0);"
        "INSERT INTO alias_domain VALUES ('other.example', 'example.com')",
        database="t",
    )
    server.grant("mail", "p", "t")
    query = (
        "SELECT goto FROM alias, alias_domain WHERE alias_domain = '%d'"
        " AND address = CONCAT('%u', '@', target_domain)"
    )
    changes = ChangesSettings(follow="yes", user="replica", password="follow it")
    async with following(server, tmp_path, changes, {"other": query}) as made:
        database, table = made.database, made.engine.tables["other"]
        await until(lambda: database.lease.holds)
        assert await made.ask("other", b"a@other.example") == Found(b"0")
        [key] = table.keys()
        for number in range(30_000):
            table.cache.store(b"%d" % number + key, b"row", time.monotonic())
        ended = threading.Event()

        def change() -> None:
            connection = server.connect("t")
            with connection.cursor() as cursor:
                while not ended.is_set():
                    cursor.execute("UPDATE alias SET goto = goto + 1")
                    ended.wait(0.01)  # so that it is visible before the next one
            connection.close()

        changing = asyncio.create_task(asyncio.to_thread(change))
        try:
            await until(lambda: database._forgetting.sweeps)
            monkeypatch.setattr(followed_host, "passed", all_but_the_last)
            server.kill_connections("replica")
            await until(lambda: not database.lease.holds)
            await until(lambda: database.lease.holds, "the feed is not found again")
            async with asyncio.timeout(10):
                assert await made.following.kept() != {}
            assert database._forgetting.sweeps
        finally:
            ended.set()
            await changing
