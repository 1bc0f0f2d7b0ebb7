from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from mailmapd.errors import DatabaseUnavailable, DataError, SchemaError
from mailmapd.model import EMPTY
from support.mariadb import MariaDB
from support.mysql_lookups import DBNAME, USER, Connect, Record, mailbox, settings_for, statement
from support.polling import until

PROCEDURES = f"""
USE {DBNAME};
CREATE OR REPLACE PROCEDURE one(k varchar(255)) SELECT maildir FROM mailbox WHERE username = k;
CREATE OR REPLACE PROCEDURE none(k varchar(255)) BEGIN DECLARE v int; SELECT 1 INTO v; END;
CREATE OR REPLACE PROCEDURE two(k varchar(255)) BEGIN SELECT 1; SELECT 2; END;
CREATE OR REPLACE PROCEDURE late_error(k varchar(255)) BEGIN SELECT 1; SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'secret'; END;
CREATE OR REPLACE PROCEDURE temporary(k varchar(255))
  BEGIN CREATE OR REPLACE TEMPORARY TABLE t (v int); INSERT INTO t VALUES (7); SELECT v FROM t; END;
CREATE OR REPLACE PROCEDURE opens(k varchar(255)) BEGIN START TRANSACTION; SELECT count(*) FROM mailbox; END;
CREATE OR REPLACE PROCEDURE writes(k varchar(255)) BEGIN INSERT INTO mailbox VALUES (k, 'x', 1); SELECT 1; END;
"""


@pytest.fixture(scope="module")
def server(lookup_server: MariaDB) -> MariaDB:
    for procedure in PROCEDURES.strip().split("CREATE OR REPLACE PROCEDURE ")[1:]:
        lookup_server.run_sql(
            f"CREATE OR REPLACE PROCEDURE {procedure.strip().removesuffix(';')}", database=DBNAME
        )
    return lookup_server


async def test_unix_and_tcp(server: MariaDB, connect: Connect, record: Record) -> None:
    """UNIX socket and TCP give the same rows, and the observer hears of each host."""
    for host in (
        f"unix:{server.socket}",
        f"127.0.0.1:{server.port}",
        f"inet:127.0.0.1:{server.port}",
    ):
        result = await connect(settings_for(server, hosts=(host,))).fetch(
            mailbox(b"user@example.com")
        )
        assert (result.columns, result.rows) == (("maildir",), ((b"example.com/user/",),))
        assert record.queries[-1] == (host, "ok")


async def test_no_row(server: MariaDB, connect: Connect) -> None:
    """No row is an empty result with its columns, not an error."""
    result = await connect(settings_for(server)).fetch(mailbox(b"nobody@example.com"))
    assert (result.columns, result.rows) == (("maildir",), ())


async def test_text_of_values(server: MariaDB, connect: Connect) -> None:
    """Values come as the server's text, NULL as None, bytes as they are."""
    sql = "SELECT 1, -2.50, 1e20, NULL, '', X'00FF', DATE '2024-02-29', 0.1 + 0.2, 18446744073709551615, 'ü', b'1'"
    row = (await connect(settings_for(server)).fetch(statement(sql))).rows[0]
    assert row == (
        *(
            b"1",
            b"-2.50",
            b"1e20",
            None,
            b"",
            b"\x00\xff",
            b"2024-02-29",
            b"0.3",
            b"18446744073709551615",
        ),
        *("ü".encode(), b"\x01"),
    )


async def test_column_names(server: MariaDB, connect: Connect) -> None:
    """Columns carry the names that the query gives them."""
    result = await connect(settings_for(server)).fetch(
        statement("SELECT maildir AS `home ü`, 1 FROM mailbox LIMIT 1")
    )
    assert result.columns == ("home ü", "1")


async def test_union_and_parentheses(server: MariaDB, connect: Connect) -> None:
    """The forms found in the field run: a parenthesised UNION, a trailing semicolon, several lines."""
    sql = "(SELECT 'a') UNION\n (SELECT maildir FROM mailbox WHERE username = '%s') LIMIT 5;"
    rows = (await connect(settings_for(server)).fetch(statement(sql, b"user@example.com"))).rows
    assert rows == ((b"a",), (b"example.com/user/",))


async def test_no_second_statement(server: MariaDB, connect: Connect) -> None:
    """A second statement behind a semicolon is refused, as by Postfix's client."""
    with pytest.raises(SchemaError, match="error 1064"):
        await connect(settings_for(server)).fetch(statement("SELECT 1; SELECT 2"))


async def test_call(server: MariaDB, connect: Connect) -> None:
    """A procedure with one result set answers, again and again on the same connection."""
    database = connect(settings_for(server, pool_size=1))
    for _ in range(3):
        assert (await database.fetch(statement("CALL one('%s')", b"user@example.com"))).rows == (
            (b"example.com/user/",),
        )
    assert (await database.fetch(mailbox(b"user@example.com"))).rows == ((b"example.com/user/",),)


async def test_call_without_result_set(server: MariaDB, connect: Connect) -> None:
    """A procedure without a result set fails its key, unless require_result_set is off: then there is no row."""
    database = connect(settings_for(server))
    with pytest.raises(DataError, match="no result set"):
        await database.fetch(statement("CALL none('k')"))
    assert await database.fetch(statement("CALL none('k')", require_result_set=False)) == EMPTY


@pytest.mark.parametrize("procedure", ["two", "late_error"])
async def test_call_gone_wrong(server: MariaDB, connect: Connect, procedure: str) -> None:
    """A second result set, or an error after the first, fails the key, and the next query gets its own answer."""
    database = connect(settings_for(server, pool_size=1))
    with pytest.raises(DataError) as caught:
        await database.fetch(statement(f"CALL {procedure}('k')"))
    assert "secret" not in str(caught.value)
    assert (await database.fetch(mailbox(b"user@example.com"))).rows == ((b"example.com/user/",),)


async def test_read_only(server: MariaDB, connect: Connect) -> None:
    """A session refuses writes, those to temporary tables too, and says how to allow them."""
    database = connect(settings_for(server))
    for procedure in ("writes", "temporary"):
        with pytest.raises(SchemaError, match="read_only = false"):
            await database.fetch(statement(f"CALL {procedure}('new@example.com')"))


async def test_writes_allowed(server: MariaDB, connect: Connect) -> None:
    """With read_only off a procedure may write."""
    database = connect(settings_for(server, read_only=False))
    assert (await database.fetch(statement("CALL writes('written@example.com')"))).rows == (
        (b"1",),
    )
    assert (await database.fetch(statement("CALL temporary('k')"))).rows == ((b"7",),)
    assert (await database.fetch(mailbox(b"written@example.com"))).rows == ((b"x",),)
    server.run_sql("DELETE FROM mailbox WHERE username = 'written@example.com'", database=DBNAME)


async def test_open_transaction(server: MariaDB, connect: Connect) -> None:
    """A procedure that leaves a transaction open does not freeze what later queries see."""
    database = connect(settings_for(server, pool_size=1))
    await database.fetch(statement("CALL opens('k')"))
    server.run_sql("INSERT INTO mailbox VALUES ('later@example.com', 'later/', 1)", database=DBNAME)
    assert (await database.fetch(mailbox(b"later@example.com"))).rows == ((b"later/",),)
    server.run_sql("DELETE FROM mailbox WHERE username = 'later@example.com'", database=DBNAME)


async def test_changes_are_seen(server: MariaDB, connect: Connect) -> None:
    """A change is seen by the next query on the same connection, even when the server's default is no autocommit."""
    server.run_sql("SET GLOBAL autocommit = 0")
    try:
        database = connect(settings_for(server, pool_size=1))
        assert (await database.fetch(mailbox(b"soon@example.com"))).rows == ()
        connection = server.connect(DBNAME)
        connection.query("INSERT INTO mailbox VALUES ('soon@example.com', 'soon/', 1)")
        connection.close()
        assert (await database.fetch(mailbox(b"soon@example.com"))).rows == ((b"soon/",),)
    finally:
        server.run_sql("SET GLOBAL autocommit = 1")
        server.run_sql("DELETE FROM mailbox WHERE username = 'soon@example.com'", database=DBNAME)


async def test_large_result(server: MariaDB, connect: Connect) -> None:
    """A result of several megabytes arrives whole; one beyond the limit fails its key, and only that."""
    database = connect(settings_for(server, pool_size=1))
    assert (await database.fetch(statement("SELECT REPEAT('x', 3000000)"))).rows == (
        (b"x" * 3_000_000,),
    )
    with pytest.raises(DataError, match="larger than"):
        await database.fetch(statement("SELECT REPEAT('x', 1000000) FROM seq_1_to_40"))
    assert (await database.fetch(statement("SELECT 1"))).rows == ((b"1",),)


async def test_cancelled(server: MariaDB, connect: Connect) -> None:
    """A caller that gives up, waiting or running, disturbs nobody, and the connection is used again."""
    database = connect(settings_for(server, pool_size=1))
    await database.fetch(statement("SELECT 1"))
    before = server.connections(USER)
    running = asyncio.create_task(database.fetch(statement("SELECT SLEEP(0.1)")))
    waiting = asyncio.create_task(database.fetch(statement("SELECT 2")))
    await until(lambda: database.status()[0].busy == 1)
    last = asyncio.create_task(database.fetch(statement("SELECT 3")))
    await asyncio.sleep(0)
    running.cancel()
    waiting.cancel()
    assert (await last).rows == ((b"3",),)
    assert server.connections(USER) == before


async def test_describe(server: MariaDB, connect: Connect) -> None:
    """The description is the SQL with its values escaped, before and after the first connection."""
    database = connect(settings_for(server))
    for _ in range(2):
        assert (
            database.describe(mailbox(b"o'brien"))
            == r"SELECT maildir FROM mailbox WHERE username = 'o\'brien'"
        )
        await database.fetch(mailbox(b"k"))


async def test_stream(server: MariaDB, connect: Connect) -> None:
    """200 000 rows come in batches, in order, with bounded memory in between, while lookups go on."""
    database = connect(settings_for(server, pool_size=1))
    seen = 0
    async for columns, rows in database.stream(
        statement("SELECT seq, REPEAT('x', 100) AS pad FROM seq_1_to_200000"), batch=1000
    ):
        assert columns == ("seq", "pad")
        assert len(rows) == 1000
        assert rows[0][0] == b"%d" % (seen + 1)
        seen += len(rows)
        if seen % 50_000 == 0:
            await database.fetch(mailbox(b"user@example.com"))
    assert seen == 200_000


@pytest.mark.parametrize("rows", [2500, 4000, 6000])
async def test_stream_slow_consumer(server: MariaDB, connect: Connect, rows: int) -> None:
    """No row is lost when the last ones, and the end, come while the consumer is busy with a batch."""
    database = connect(settings_for(server))
    seen: list[bytes | None] = []
    async for _, batch in database.stream(
        statement(f"SELECT seq, REPEAT('x', 100) FROM seq_1_to_{rows}"), batch=1000
    ):
        seen += [row[0] for row in batch]
        await asyncio.sleep(0.01)
    assert seen == [b"%d" % number for number in range(1, rows + 1)]


async def test_stream_held_up(server: MariaDB, connect: Connect) -> None:
    """A slow consumer holds the server up instead of filling memory."""
    database = connect(settings_for(server))
    async with aclosing(
        database.stream(statement("SELECT seq, REPEAT('x', 1000) FROM seq_1_to_100000"), batch=100)
    ) as stream:
        await anext(stream)
        query = "SELECT state FROM information_schema.processlist WHERE user = %s AND info LIKE 'SELECT seq%%'"
        await until(lambda: server.run_sql(query, USER) == [("Writing to net",)])
    await until(lambda: not server.run_sql(query, USER))


async def test_stream_closed(server: MariaDB, connect: Connect) -> None:
    """A stream that is held up when the database closes raises; it never ends as if that were all."""
    database = connect(settings_for(server))
    async with aclosing(
        database.stream(statement("SELECT seq, REPEAT('x', 1000) FROM seq_1_to_100000"), batch=100)
    ) as stream:
        await anext(stream)
        await asyncio.sleep(0.1)
        await database.close()
        with pytest.raises(DatabaseUnavailable):
            [None async for _ in stream]


async def test_stream_empty(server: MariaDB, connect: Connect) -> None:
    """A stream without rows yields its columns once."""
    stream = connect(settings_for(server)).stream(statement("SELECT maildir FROM mailbox WHERE 0"))
    assert [item async for item in stream] == [(("maildir",), [])]


async def test_stream_errors(server: MariaDB, connect: Connect) -> None:
    """A stream's errors are those of fetch."""
    database = connect(settings_for(server))
    with pytest.raises(SchemaError, match="Unknown column 'nope'"):
        await anext(database.stream(statement("SELECT nope FROM mailbox")))
    with pytest.raises(DataError, match="more than one result set"):
        [item async for item in database.stream(statement("CALL two('k')"))]


async def test_stream_cut(server: MariaDB, connect: Connect) -> None:
    """A stream whose connection is cut raises; it never ends as if that were all."""
    database = connect(settings_for(server))
    rows = 0
    with pytest.raises(DatabaseUnavailable):  # noqa: PT012  # the loop is what fails
        async for _, batch in database.stream(
            statement("SELECT seq, REPEAT('x', 1000) FROM seq_1_to_100000"), batch=100
        ):
            if rows == 0:
                server.kill_connections(USER)
            rows += len(batch)
    assert 0 < rows < 100_000
