from __future__ import annotations

import asyncio
import resource
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mailmapd.databases.settings import SqliteSettings
from mailmapd.databases.sqlite.database import CHECK_INTERVAL, SqliteDatabase
from mailmapd.errors import DatabaseOverloaded, DatabaseUnavailable, DataError, SchemaError
from mailmapd.template.statement import Statement, Value
from support.clock import FakeClock
from support.polling import until

ENDLESS = Statement(
    "endless",
    (b"WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",),
)


def select(sql: str, *values: bytes) -> Statement:
    pieces: list[bytes | Value] = []
    texts = sql.split("%s")
    for number, text in enumerate(texts):
        pieces.append(text.encode())
        if number < len(values):
            pieces.append(Value(values[number]))
    return Statement("mailbox", tuple(pieces))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with one mailbox."""
    return fill(tmp_path / "mail?#%.db", "user@example.com", "example.com/user/")


def fill(path: Path, key: str, value: str) -> Path:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mailbox (username, maildir)")
    connection.execute("INSERT INTO mailbox VALUES (?, ?)", (key, value))
    connection.commit()
    connection.close()
    return path


Open = Callable[..., SqliteDatabase]


@pytest.fixture
def settings(path: Path) -> SqliteSettings:
    return SqliteSettings(str(path))


@pytest.fixture
async def database(settings: SqliteSettings) -> AsyncIterator[Open]:
    opened: list[SqliteDatabase] = []

    def make(
        changed: SqliteSettings = settings, clock: Callable[[], float] = time.monotonic
    ) -> SqliteDatabase:
        opened.append(SqliteDatabase("mail", changed, clock=clock))
        return opened[-1]

    yield make
    for each in opened:
        await each.close()


async def failure(work: Awaitable[object]) -> str:
    with pytest.raises((DataError, SchemaError, DatabaseUnavailable)) as caught:
        await work
    return str(caught.value)


async def test_found(database: Open) -> None:
    """A row comes with its column names, and no row is a definite empty result."""
    mail = database()
    result = await mail.fetch(
        select("SELECT maildir FROM mailbox WHERE username = '%s'", b"user@example.com")
    )
    assert (result.columns, result.rows) == (("maildir",), ((b"example.com/user/",),))
    assert (
        await mail.fetch(select("SELECT maildir FROM mailbox WHERE username = '%s'", b"nobody"))
    ).rows == ()


@pytest.mark.parametrize(
    "key",
    [
        b"'; DROP TABLE mailbox; --",
        b"\\'",
        b'"',
        b"%",
        b"?",
        b":a",
        b"\\",
        b"o''brien",
        "ü€😀".encode(),
    ],
)
async def test_quoting(database: Open, key: bytes) -> None:
    """Whatever the key holds, SQLite sees exactly that key."""
    assert (await database().fetch(select("SELECT '%s'", key))).rows == ((key,),)


@pytest.mark.parametrize(
    "expression",
    [
        "1",
        "-7",
        "1.0",
        "0.1",
        "1e20",
        "1.5e-7",
        "9e999",
        "123456789012345678",
        "1/3.0",
        "x'00ff'",
        "'text'",
        "NULL",
        "100000000000000000000.0",
    ],
)
async def test_text_of_values(database: Open, path: Path, expression: str) -> None:
    """Every type becomes the text that SQLite itself makes of it."""
    connection = sqlite3.connect(path)
    connection.text_factory = bytes
    wanted = connection.execute(f"SELECT CAST({expression} AS TEXT)").fetchone()[0]
    connection.close()
    assert (await database().fetch(select(f"SELECT {expression}"))).rows == ((wanted,),)


async def test_read_only(database: Open) -> None:
    """A query that writes is refused and blamed on the table."""
    assert "reading only" in await failure(
        database().fetch(select("INSERT INTO mailbox VALUES (1, 2)"))
    )


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SELECT user_mail FROM mailbox", "no such column: user_mail"),
        ("SELECT 1 FROM mailbx", "no such table: mailbx"),
        ("SELEC 1", "mistake in its SQL"),
        ("SELECT 1; SELECT 2", "second statement"),
    ],
)
async def test_schema_errors(database: Open, sql: str, text: str) -> None:
    """A query that does not fit the file is a SchemaError that names the file and the mistake."""
    mail = database()
    with pytest.raises(SchemaError, match=text):
        await mail.fetch(select(sql))
    assert mail.status()[0].up


async def test_trailing_semicolon(database: Open) -> None:
    """A semicolon or comment at the end of the query does no harm."""
    assert (await database().fetch(select("SELECT 1; -- one\n"))).rows == ((b"1",),)


@pytest.mark.parametrize("key", [b"\xff\xfe", b"a\0b"])
async def test_data_errors(database: Open, key: bytes) -> None:
    """A key that cannot be sent is a DataError, and the next key works."""
    mail = database()
    with pytest.raises(DataError):
        await mail.fetch(select("SELECT '%s'", key))
    assert (await mail.fetch(select("SELECT '%s'", b"k"))).rows == ((b"k",),)


@pytest.mark.parametrize("value", [b"root", b"", b"select"])
async def test_value_outside_strings(database: Open, value: bytes) -> None:
    """Where a value stands outside strings and makes a column or a mistake of itself, it fails
    alone and not its table.
    """
    with pytest.raises(DataError):
        await database().fetch(select("SELECT maildir FROM mailbox WHERE rowid = %s", value))
    with pytest.raises(SchemaError, match="no such column: nope"):
        await database().fetch(select("SELECT nope FROM mailbox WHERE rowid = %s", b"1"))


async def test_pattern_too_complex(database: Open) -> None:
    """A LIKE pattern that SQLite refuses for its length is the key's fault, not the table's."""
    with pytest.raises(DataError):
        await database().fetch(select("SELECT 'a' LIKE '%s'", b"%" * 60000))


async def test_missing_file(tmp_path: Path) -> None:
    """A missing file is an unavailable database that names the path, and is not created."""
    path = tmp_path / "none.db"
    mail = SqliteDatabase("mail", SqliteSettings(str(path)))
    assert str(path) in await failure(mail.fetch(select("SELECT 1")))
    assert not path.exists()
    assert not mail.status()[0].up
    fill(path, "k", "v")
    assert (await mail.fetch(select("SELECT maildir FROM mailbox"))).rows == ((b"v",),)
    assert mail.status()[0].up
    await mail.close()


async def test_not_a_database(tmp_path: Path) -> None:
    """A file that is no database is unavailable, with its path."""
    path = tmp_path / "text.db"
    path.write_text("this is not a database file, but long enough to be taken for one\n" * 20)
    mail = SqliteDatabase("mail", SqliteSettings(str(path)))
    assert "not a SQLite database" in await failure(mail.fetch(select("SELECT * FROM mailbox")))
    await mail.close()


async def test_replaced_file(database: Open, path: Path, tmp_path: Path) -> None:
    """A file renamed over the old one is read a second later."""
    clock = FakeClock()
    mail = database(clock=clock)
    query = select("SELECT maildir FROM mailbox")
    assert (await mail.fetch(query)).rows == ((b"example.com/user/",),)
    fill(tmp_path / "new.db", "k", "new").replace(path)
    clock.now = 1.0
    assert (await mail.fetch(query)).rows == ((b"new",),)


async def test_query_timeout(database: Open, settings: SqliteSettings) -> None:
    """A query beyond its deadline is unavailable, is broken off, and leaves the readers usable."""
    mail = database(replace(settings, query_timeout=0.1, readers=1))
    with pytest.raises(DatabaseUnavailable, match="query_timeout"):
        await mail.fetch(ENDLESS)
    assert (await mail.fetch(select("SELECT 1"))).rows == ((b"1",),)


async def test_queue_timeout(database: Open, settings: SqliteSettings) -> None:
    """Who waits too long for a reader is told so."""
    mail = database(replace(settings, readers=1, queue_timeout=0.05, query_timeout=30))
    busy = asyncio.create_task(mail.fetch(ENDLESS))
    await asyncio.sleep(0)
    with pytest.raises(DatabaseOverloaded, match="queue_timeout"):
        await mail.fetch(select("SELECT 1"))
    busy.cancel()
    with pytest.raises(asyncio.CancelledError):
        await busy


async def test_queue_limit(database: Open, settings: SqliteSettings) -> None:
    """No more than max_queued lookups wait."""
    mail = database(replace(settings, readers=1, max_queued=1, query_timeout=30, queue_timeout=30))
    busy = [
        asyncio.create_task(mail.fetch(ENDLESS)),
        asyncio.create_task(mail.fetch(select("SELECT 1"))),
    ]
    await until(lambda: mail.status()[0].busy > 0)
    with pytest.raises(DatabaseOverloaded, match="max_queued"):
        await mail.fetch(select("SELECT 1"))
    busy[0].cancel()
    assert (await busy[1]).rows == ((b"1",),)


async def test_file_goes_away(database: Open, settings: SqliteSettings, path: Path) -> None:
    """All who wait for a reader are told at once when the file is gone."""
    clock = FakeClock()
    mail = database(replace(settings, readers=1, query_timeout=60, queue_timeout=60), clock)
    busy = asyncio.create_task(mail.fetch(ENDLESS))
    await until(lambda: mail.status()[0].busy > 0)
    waiting = [asyncio.create_task(mail.fetch(select("SELECT 1"))) for _ in range(3)]
    await asyncio.to_thread(path.unlink)
    clock.now = CHECK_INTERVAL
    busy.cancel()
    async with asyncio.timeout(10):
        for each in waiting:
            assert "No such file" in await failure(each)


async def test_parallel(database: Open, settings: SqliteSettings) -> None:
    """Many lookups at once share the readers and all get their own answer."""
    mail = database(replace(settings, readers=3))
    results = await asyncio.gather(
        *[mail.fetch(select("SELECT '%s'", b"%d" % number)) for number in range(200)]
    )
    assert [result.rows for result in results] == [((b"%d" % number,),) for number in range(200)]
    assert mail.status()[0].idle == 3


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_close(path: Path) -> None:
    """Closing breaks off what runs, fails what comes, and leaves no descriptor open."""
    before = open_descriptors()
    mail = SqliteDatabase("mail", SqliteSettings(str(path)))
    await mail.fetch(select("SELECT maildir FROM mailbox"))
    busy = asyncio.create_task(mail.fetch(ENDLESS))
    await until(lambda: mail.status()[0].busy > 0)
    await asyncio.sleep(0.01)
    await mail.close()
    with pytest.raises(DatabaseUnavailable):
        await busy
    with pytest.raises(DatabaseUnavailable):
        await mail.fetch(select("SELECT 1"))
    await mail.close()
    assert open_descriptors() == before


MANY = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 1000000000) SELECT {} FROM c"


@pytest.mark.parametrize(
    "sql",
    [
        MANY.format("n"),
        MANY.format("zeroblob(10000)"),
        "SELECT zeroblob(5000000)",
        "SELECT zeroblob(900000000)",
        "SELECT " + ", ".join(["zeroblob(1000000)"] * 20),
    ],
)
async def test_too_much(database: Open, sql: str) -> None:
    """A result that no lookup has is given up as soon as it is too long, however it is."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "too long" in (said := await failure(database().fetch(select(sql)))) or "MiB" in said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 1024
    assert (await database().fetch(select("SELECT 1"))).rows == ((b"1",),)


async def test_long_rows_of_a_stream(database: Open) -> None:
    """Of long rows fewer are read at a time than are asked for, and the batches of short ones are full."""
    sizes = []
    sql = MANY.replace("1000000000", "30").format("zeroblob(200000)")
    async for _, rows in database().stream(select(sql), batch=1000):
        sizes.append(len(rows))
    assert sum(sizes) == 30
    assert max(sizes) <= 6
    sql = MANY.replace("1000000000", "2500").format("n")
    sizes = [len(rows) async for _, rows in database().stream(select(sql), batch=1000)]
    assert sizes == [1000, 1000, 500]


async def test_stream(database: Open) -> None:
    """A stream yields every row in batches, and an empty batch for none."""
    mail = database()
    numbers = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 2500) SELECT "
        "x, x / 2.0 AS half FROM n"
    )
    batches = [item async for item in mail.stream(select(numbers))]
    assert [len(rows) for _, rows in batches] == [1000, 1000, 500]
    assert batches[0][0] == ("x", "half")
    assert batches[2][1][-1] == (b"2500", b"1250.0")
    assert [item async for item in mail.stream(select("SELECT maildir FROM mailbox WHERE 0"))] == [
        (("maildir",), [])
    ]


async def test_describe(database: Open) -> None:
    """The description is the SQL as sent."""
    assert database().describe(select("SELECT '%s'", b"o'brien")) == "SELECT 'o''brien'"


def test_file_that_cannot_be_opened_leaves_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread whose file could not be opened ended before that is told, and says nothing to a closed loop."""
    said: list[object] = []
    monkeypatch.setattr(threading, "excepthook", said.append)

    async def fail() -> None:
        database = SqliteDatabase("mail", SqliteSettings(path=str(tmp_path)))
        with pytest.raises(DatabaseUnavailable):
            await database.fetch(select("SELECT 1"))
        await database.close()

    for _ in range(50):
        asyncio.run(fail())
    assert said == []
