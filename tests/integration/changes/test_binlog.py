"""The log of real servers, as a replica reads it: every column type, row image and compression, and
nothing in silence.
"""

from __future__ import annotations

import pytest

from mailmapd.databases.mysql.binlog.events import (
    ABSENT,
    Event,
    Heartbeat,
    Image,
    Kind,
    LogRotated,
    NotUnderstood,
    RowsChanged,
    RowsUnreadable,
    StatementLogged,
    TransactionBegun,
    TransactionPrepared,
)
from mailmapd.databases.mysql.binlog.session import CannotFollow
from mailmapd.errors import DatabaseError
from support.debian_sid import Mysql9
from support.followed import LOGGED, Followed, grant_replication
from support.mariadb import MariaDB, private_directory
from support.polling import until
from support.sql_server import SqlServer

pytestmark = [pytest.mark.servers, pytest.mark.root, pytest.mark.timeout(1800)]

COLUMNS = """
    id BIGINT AUTO_INCREMENT PRIMARY KEY, address VARCHAR(255), goto TEXT, n DECIMAL(12,4), wide DECIMAL(65,30),
    d DATETIME(3), ts TIMESTAMP(6) NULL, e ENUM('a','b'), st SET('x','y','z'), f FLOAT, dd DOUBLE, c CHAR(10),
    c300 CHAR(200), b BIT(11), y YEAR, t TIME(2), dt DATE, m MEDIUMINT, bl LONGBLOB, ti TINYINT, bb BINARY(4),
    vb VARBINARY(300), g GEOMETRY, s SMALLINT, u INT UNSIGNED, tb TINYTEXT, mb MEDIUMBLOB, plain DATETIME,
    old TIMESTAMP NULL, x VARCHAR(50)
"""
"""Every type, with one that both servers write as text last: what is read of it shows that all
before it was measured.
"""

VALUES = """
    address = 'Bob@Example.com', goto = 'x,y', n = 12345.6789, wide = 1.5, d = NOW(3), ts = NOW(6), e = 'b',
    st = 'x,z', f = 1.5, dd = 2.5, c = 'hi', c300 = 'ä', b = b'101', y = 2020, t = '10:11:12.5', dt = '2020-01-01',
    m = -5, bl = REPEAT('blob', 20000), ti = 1, bb = 'ab', vb = REPEAT('v', 290), g = POINT(1, 1), s = 7, u = 8,
    tb = 'tiny', mb = 'medium', plain = NOW(), old = NOW()
"""
OWN_COLUMNS = {
    "MariaDB": "pk INT GENERATED ALWAYS AS (s + 1) STORED, j JSON, vc VARCHAR(50) COMPRESSED, bc BLOB COMPRESSED,",
    "MySQL 9": "inv INT INVISIBLE, j JSON, v VECTOR(3),",
}
OWN_VALUES = {
    "MariaDB": "j = '{\"a\": 1}', vc = REPEAT('c', 50), bc = REPEAT('d', 300),",
    "MySQL 9": "inv = 3, j = '{\"a\": 1}', v = TO_VECTOR('[1,2,3]'),",
}


@pytest.fixture(params=["MariaDB", "MySQL 9"])
def server(request: pytest.FixtureRequest) -> SqlServer:
    """A server with an empty database t, whose rows are logged."""
    found: SqlServer = request.getfixturevalue("mariadb" if request.param == "MariaDB" else "mysql")
    found.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    return found


def first_and_last(schema: str, table: str, columns: int) -> tuple[int, ...] | None:
    """Read two columns of table `a`, and of no other."""
    return (1, columns - 1) if (schema, table) == ("t", "a") else None


def make_table(server: SqlServer, kind: str) -> None:
    own = OWN_COLUMNS[kind]
    server.run_sql(
        f"CREATE TABLE t.a ({COLUMNS.replace('s SMALLINT', own + ' s SMALLINT')}) ENGINE = InnoDB"
    )


def kind_of(server: SqlServer) -> str:
    return "MariaDB" if isinstance(server, MariaDB) else "MySQL 9"


def images(events: list[Event]) -> list[tuple[Kind, Image | None, Image | None]]:
    return [
        (event.kind, *change)
        for event in events
        if isinstance(event, RowsChanged)
        for change in event.changes
    ]


async def marked(followed: Followed, server: SqlServer) -> None:
    """Wait until everything that was written so far has come."""
    server.run_sql("CREATE TABLE IF NOT EXISTS t.mark (n INT); DROP TABLE t.mark")
    await followed.until(
        lambda events: any(
            isinstance(event, StatementLogged) and "DROP TABLE" in event.sql and "mark" in event.sql
            for event in events
        )
    )
    followed.events[:] = [
        event
        for event in followed.events
        if not (isinstance(event, StatementLogged) and "mark" in event.sql)
    ]


@pytest.mark.parametrize("image", ["FULL", "MINIMAL", "NOBLOB"])
@pytest.mark.parametrize("compressed", [False, True])
async def test_rows_of_every_type(server: SqlServer, image: str, compressed: bool) -> None:
    """Rows with a column of every type are read in every row image, compressed or not: insert, update, delete."""
    kind = kind_of(server)
    make_table(server, kind)
    compress = {
        ("MariaDB", True): "SET GLOBAL log_bin_compress = 1, log_bin_compress_min_len = 10;",
        ("MariaDB", False): "SET GLOBAL log_bin_compress = 0;",
        ("MySQL 9", True): "SET SESSION binlog_transaction_compression = ON;",
    }.get((kind, compressed), "")
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"{compress} SET SESSION binlog_row_image = {image}")
        async with Followed(server, first_and_last) as followed:
            for sql in (
                f"INSERT INTO t.a SET {OWN_VALUES[kind]} {VALUES}, x = 'END1'",
                "INSERT INTO t.a SET address = 'nulls', x = 'END2'",
                "UPDATE t.a SET x = 'END3', goto = NULL WHERE id = 1",
                "DELETE FROM t.a WHERE id = 1",
            ):
                cursor.execute(sql)
            await marked(followed, server)
            found = images(followed.events)
            strange = followed.of(NotUnderstood, RowsUnreadable)
    if kind == "MariaDB":
        server.run_sql("SET GLOBAL log_bin_compress = 0")
    assert strange == []
    full = image != "MINIMAL"
    before = (b"Bob@Example.com", b"END1") if full else (ABSENT, ABSENT)
    after = (b"Bob@Example.com", b"END3") if full else (ABSENT, b"END3")
    gone = (b"Bob@Example.com", b"END3") if full else (ABSENT, ABSENT)
    assert found == [
        (Kind.INSERT, None, (b"Bob@Example.com", b"END1")),
        (Kind.INSERT, None, (b"nulls", b"END2")),
        (Kind.UPDATE, before, after),
        (Kind.DELETE, gone, None),
    ]


async def test_a_row_of_defaults(server: SqlServer) -> None:
    """A row that was inserted without naming a column, in the smallest image, is not passed over in silence."""
    server.run_sql("CREATE TABLE t.a (x INT DEFAULT 1, y INT DEFAULT 2)")
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION binlog_row_image = MINIMAL")
        async with Followed(server, first_and_last) as followed:
            cursor.execute("INSERT INTO t.a () VALUES ()")
            await marked(followed, server)
            [found] = followed.of(RowsChanged, RowsUnreadable)
    assert isinstance(found, RowsUnreadable) or (
        isinstance(found, RowsChanged) and len(found.changes) == 1
    )


@pytest.mark.parametrize("checksum", ["NONE", "CRC32"])
async def test_checksums(server: SqlServer, checksum: str) -> None:
    """With checksums and without, also when they are switched in the middle of a stream, statements
    end where they end.
    """
    make_table(server, kind_of(server))
    server.run_sql(f"SET GLOBAL binlog_checksum = {checksum}")
    async with Followed(server, first_and_last) as followed:
        server.run_sql("INSERT INTO t.a SET address = 'one', x = 'first'")
        server.run_sql("CREATE TABLE t.b (n INT)")
        server.run_sql(f"SET GLOBAL binlog_checksum = {'NONE' if checksum == 'CRC32' else 'CRC32'}")
        server.run_sql("INSERT INTO t.a SET address = 'two', x = 'second'")
        await marked(followed, server)
        assert followed.of(NotUnderstood, RowsUnreadable) == []
        assert [after for _, _, after in images(followed.events)] == [
            (b"one", b"first"),
            (b"two", b"second"),
        ]
        statements = [event.sql for event in followed.events if isinstance(event, StatementLogged)]
        assert any(sql.rstrip().endswith("(n INT)") for sql in statements)
    server.run_sql("SET GLOBAL binlog_checksum = CRC32")


async def test_statements_and_identifiers(server: SqlServer) -> None:
    """DDL, and rows changed in STATEMENT format, come as text; each transaction has its identifier."""
    make_table(server, kind_of(server))
    async with Followed(server, first_and_last) as followed:
        server.run_sql("ALTER TABLE t.a ADD COLUMN extra INT")
        server.run_sql(
            "SET SESSION binlog_format = STATEMENT; INSERT INTO t.a SET address = 'as text'"
        )
        await marked(followed, server)
        statements = [event.sql for event in followed.events if isinstance(event, StatementLogged)]
        assert "ALTER TABLE t.a ADD COLUMN extra INT" in statements
        assert any("'as text'" in sql for sql in statements)
        assert images(followed.events) == []
        begun = [event.gtid for event in followed.events if isinstance(event, TransactionBegun)]
        last = server.run_sql(
            "SELECT @@gtid_binlog_pos"
            if isinstance(server, MariaDB)
            else "SELECT @@global.gtid_executed"
        )[0][0]
        assert begun[-1].split(":")[0].split("-")[0] == last.split(":")[0].split("-")[0]
        assert (
            begun[-1].rpartition("-" if isinstance(server, MariaDB) else ":")[2]
            == (last.rpartition("-")[2])
        )


async def test_transactions_in_two_phases(server: SqlServer) -> None:
    """XA rows come when they are prepared, and say so; XA COMMIT comes as a statement."""
    make_table(server, kind_of(server))
    async with Followed(server, first_and_last) as followed:
        with server.connect() as connection, connection.cursor() as cursor:
            for sql in (
                "XA START 'x'",
                "INSERT INTO t.a SET address = 'in two phases'",
                "XA END 'x'",
                "XA PREPARE 'x'",
            ):
                cursor.execute(sql)
            await followed.until(
                lambda events: (
                    any(isinstance(event, TransactionPrepared) for event in events)
                    or any(
                        isinstance(event, StatementLogged) and "XA PREP" in event.sql
                        for event in events
                    )
                )
            )
            assert [after for _, _, after in images(followed.events)] == [(b"in two phases", None)]
            cursor.execute("XA COMMIT 'x'")
        await followed.until(
            lambda events: any(
                isinstance(event, StatementLogged) and event.sql.startswith("XA COMMIT")
                for event in events
            )
        )
        assert followed.of(NotUnderstood, RowsUnreadable) == []


async def test_heartbeats_and_rotation(server: SqlServer) -> None:
    """A silent server sends a heartbeat each second, and another file goes on where the last one ended."""
    make_table(server, kind_of(server))
    async with Followed(server, first_and_last) as followed:
        await followed.until(lambda events: any(isinstance(event, Heartbeat) for event in events))
        server.run_sql("FLUSH BINARY LOGS")
        server.run_sql("INSERT INTO t.a SET address = 'in the next file', x = ''")
        await marked(followed, server)
        assert [after for _, _, after in images(followed.events)] == [(b"in the next file", b"")]
        assert len({event.file for event in followed.events if isinstance(event, LogRotated)}) > 1


async def test_partial_json(mysql: Mysql9) -> None:
    """MySQL's partial JSON updates are not read, and their table is named."""
    mysql.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    mysql.run_sql("CREATE TABLE t.a (id INT PRIMARY KEY, j JSON, x VARCHAR(9))")
    async with Followed(mysql, first_and_last) as followed:
        mysql.run_sql(
            "SET SESSION binlog_row_value_options = PARTIAL_JSON, binlog_row_image = MINIMAL;"
            "INSERT INTO t.a VALUES (1, JSON_OBJECT('a', REPEAT('b', 100), 'n', 1), 'x');"
            "UPDATE t.a SET j = JSON_SET(j, '$.n', 2)"
        )
        await marked(followed, mysql)
        [unreadable] = followed.of(RowsUnreadable)
        assert isinstance(unreadable, RowsUnreadable)
        assert (unreadable.schema, unreadable.table) == ("t", "a")


async def test_nothing_before_the_place(server: SqlServer) -> None:
    """A stream begins behind what was visible when it was asked for, and from a place of before it
    has what came since.
    """
    make_table(server, kind_of(server))
    server.run_sql("INSERT INTO t.a SET address = 'before'")
    async with Followed(server, first_and_last) as followed:
        place = followed.place
        server.run_sql("INSERT INTO t.a SET address = 'after'")
        await marked(followed, server)
        assert [after for _, _, after in images(followed.events)] == [(b"after", None)]
    async with Followed(server, first_and_last, place=place) as again:
        await marked(again, server)
        assert [after for _, _, after in images(again.events)] == [(b"after", None)]


async def test_without_the_privilege(server: SqlServer) -> None:
    """An account without REPLICATION SLAVE is told so, as a fault that no retry mends."""
    server.grant("reader", "", "t")
    followed = Followed(server, first_and_last, user="reader")
    async with followed:
        await followed.until(lambda _: False)
        assert isinstance(followed.lost, CannotFollow)
        assert "may not read the log" in str(followed.lost)


async def test_unfit_servers(mariadb: MariaDB) -> None:
    """A server that logs statements is named with the setting that helps, before anything is followed."""
    mariadb.run_sql("SET GLOBAL binlog_format = MIXED")
    try:
        with pytest.raises(CannotFollow, match="binlog_format = ROW"):
            await Followed(mariadb, first_and_last).__aenter__()
    finally:
        mariadb.run_sql("SET GLOBAL binlog_format = ROW")
    with private_directory() as folder, MariaDB(folder) as silent:
        grant_replication(silent)
        with pytest.raises(CannotFollow, match="set log_bin"):
            await Followed(silent, first_and_last).__aenter__()


async def test_commits_out_of_order(mysql: Mysql9) -> None:
    """A server whose changes become visible in another order than they are logged in is not followed."""
    mysql.run_sql("SET GLOBAL binlog_order_commits = OFF")
    try:
        with pytest.raises(CannotFollow, match="binlog_order_commits = ON"):
            await Followed(mysql, first_and_last).__aenter__()
    finally:
        mysql.run_sql("SET GLOBAL binlog_order_commits = ON")


async def test_commits_one_by_one() -> None:
    """A MariaDB that says how far its commits are before they can be seen is not followed."""
    options = (*LOGGED, "--binlog-optimize-thread-scheduling=OFF")
    with private_directory() as folder, MariaDB(folder, settings=options) as server:
        grant_replication(server)
        with pytest.raises(CannotFollow, match="binlog_optimize_thread_scheduling is OFF"):
            await Followed(server, first_and_last).__aenter__()


async def test_replicas_that_do_not_log(mariadb: MariaDB) -> None:
    """A replica whose log says nothing of what it replicates is not followed."""
    mariadb.run_sql("SET GLOBAL gtid_slave_pos = '7-7-7'")
    try:
        with pytest.raises(CannotFollow, match="log_slave_updates = ON"):
            await Followed(mariadb, first_and_last).__aenter__()
    finally:
        mariadb.run_sql("SET GLOBAL gtid_slave_pos = ''")


async def test_a_purged_place(server: SqlServer) -> None:
    """A place whose file is gone ends the stream with the server's words."""
    make_table(server, kind_of(server))
    async with Followed(server, first_and_last) as followed:
        place = followed.place
    server.run_sql("INSERT INTO t.a SET address = 'lost'")
    server.run_sql("FLUSH BINARY LOGS")
    file = server.run_sql("SHOW BINARY LOGS")[-1][0]

    def purged() -> bool:
        """Purge, which leaves a file that somebody still reads: the server notices a little later that nobody does."""
        server.run_sql(f"PURGE BINARY LOGS TO '{file}'")
        return bool(server.run_sql("SHOW BINARY LOGS")[0][0] == file)

    await until(purged)
    async with Followed(server, first_and_last, place=place) as late:
        await late.until(lambda _: False)
        assert isinstance(late.lost, DatabaseError)
        assert "1236" in str(late.lost)
