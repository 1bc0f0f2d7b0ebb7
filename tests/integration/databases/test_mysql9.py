"""MySQL 9, as Debian's unstable release has it: its login, and what it does otherwise than MariaDB."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace

import pytest

from mailmapd.databases.mysql.database import MysqlDatabase
from mailmapd.databases.settings import MysqlSettings, TlsSettings
from mailmapd.errors import DatabaseError, DatabaseUnavailable, DataError, SchemaError
from support.certificates import Certificates, make_certificates
from support.debian_sid import DebianSid, Mysql9
from support.kept_debian import CannotDownload
from support.mariadb import private_directory
from support.mysql_lookups import (
    DBNAME,
    HOSTILE,
    MODES,
    PASSWORD,
    USER,
    Connect,
    Record,
    mailbox,
    prepare,
    settings_for,
    statement,
)
from support.polling import until

pytestmark = [
    pytest.mark.servers,
    pytest.mark.root,
    pytest.mark.timeout(1800),
]  # the first test may have to download a system

ROUTES = ["unix", "tls", "tcp"]
USER_ROW = ((b"example.com/user/",),)
LONG_QUERY = "SELECT COUNT(*) FROM " + ", ".join(
    [f"information_schema.collations c{number}" for number in range(5)]
)
WAYS = {
    "caching sha2: succeeded by fast path.": "hash",
    "caching sha2: Sending plain password via secure connection": "password",
    "-----BEGIN PUBLIC KEY-----": "rsa",
}
"""What aiomysql logs about each way of giving the password."""


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    with private_directory() as folder:
        yield make_certificates(folder)


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[Mysql9]:
    """The server, with the database of lookups."""
    with ExitStack() as stack:
        try:
            system = stack.enter_context(DebianSid())
        except CannotDownload as error:
            pytest.skip(str(error))
        yield prepare(stack.enter_context(Mysql9(system, certificates)))


@pytest.fixture(params=ROUTES)
def settings(
    request: pytest.FixtureRequest, server: Mysql9, certificates: Certificates
) -> MysqlSettings:
    """Settings for one of the three routes to the server."""
    return route(request.param, server, certificates)


def route(name: str, server: Mysql9, certificates: Certificates) -> MysqlSettings:
    tls = TlsSettings(ca=str(certificates.ca)) if name == "tls" else None
    hosts = (f"unix:{server.socket}",) if name == "unix" else (f"127.0.0.1:{server.port}",)
    return settings_for(server, hosts=hosts, tls=tls, pool_size=2)


async def way_of_login(database: MysqlDatabase, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Make the first lookup, close the database, and return how its only login gave the password."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "aiomysql"):
        assert (await database.fetch(mailbox(b"user@example.com"))).rows == USER_ROW
    await database.close()
    return [
        way for message in caplog.messages for text, way in WAYS.items() if message.startswith(text)
    ]


@pytest.mark.parametrize("name", ROUTES)
async def test_login(
    server: Mysql9,
    connect: Connect,
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    """A server that has forgotten the password's hash gets the password, in clear only where nobody can listen.

    Then the hash will do.
    """
    full = "rsa" if name == "tcp" else "password"
    settings = route(name, server, certificates)
    server.forget_passwords()
    assert await way_of_login(connect(settings), caplog) == [full]
    assert await way_of_login(connect(settings), caplog) == ["hash"]
    server.forget_passwords()
    assert await way_of_login(connect(settings), caplog) == [full]


@asynccontextmanager
async def older_greeting(port: int) -> AsyncIterator[int]:
    """Stand before a server and have it greet as MySQL 5.7 and MariaDB do, so that it switches to
    the account's own method.
    """

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, downstream = await asyncio.open_connection("127.0.0.1", port)
        greeting = await upstream.read(4096)
        writer.write(greeting.replace(b"caching_sha2_password", b"mysql_native_password"))
        await asyncio.gather(copy(upstream, writer), copy(reader, downstream))

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(4096):
            target.write(data)
        target.close()

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1]


async def test_switched_login(
    server: Mysql9, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """The hash is enough, too, after the server has switched from the method that it greeted with."""
    server.forget_passwords()
    async with older_greeting(server.port) as port:
        settings = settings_for(server, hosts=(f"127.0.0.1:{port}",))
        assert await way_of_login(connect(settings), caplog) == ["rsa"]
        assert await way_of_login(connect(settings), caplog) == ["hash"]


async def test_other_accounts(server: Mysql9, connect: Connect, settings: MysqlSettings) -> None:
    """The older sha256_password and an account without a password log in on every route."""
    server.run_sql(
        "DROP USER IF EXISTS older, open; CREATE USER older IDENTIFIED WITH sha256_password BY %s; CREATE USER open",
        PASSWORD,
    )
    server.run_sql(f"GRANT SELECT ON {DBNAME}.* TO older, open")
    for user, password in (("older", PASSWORD), ("open", "")):
        database = connect(replace(settings, user=user, password=password))
        assert (await database.fetch(mailbox(b"user@example.com"))).rows == USER_ROW


@pytest.mark.parametrize("cold", [False, True])
async def test_wrong_password(
    server: Mysql9, connect: Connect, record: Record, settings: MysqlSettings, cold: bool
) -> None:
    """A refused login names the user and hides the password.

    A crowd of lookups costs the server one login for each connection.
    """
    if cold:
        server.forget_passwords()
    else:
        await connect(settings).fetch(statement("SELECT 1"))
    record.queries.clear()
    before = refused_logins(server)
    database = connect(replace(settings, password="s3cret"), probe_interval=60.0)
    for _ in range(3):
        errors = await asyncio.gather(
            *[database.fetch(mailbox(b"user@example.com")) for _ in range(100)],
            return_exceptions=True,
        )
        assert {type(error) for error in errors} == {DatabaseUnavailable}
        assert f"Access denied for user '{USER}'" in str(errors[0])
        assert settings.hosts[0] in str(errors[0])
        assert "s3cret" not in str(errors)
        assert "no key" not in str(errors)
    await until(
        lambda: refused_logins(server) > before
    )  # it counts a login after it has refused it
    assert refused_logins(server) - before <= settings.pool_size
    assert record.states == [(settings.hosts[0], False)]


def refused_logins(server: Mysql9) -> int:
    return int(server.run_sql("SHOW GLOBAL STATUS LIKE 'Aborted_connects'")[0][1])


async def test_tls_demanded(server: Mysql9, connect: Connect, certificates: Certificates) -> None:
    """A server that demands TLS says so to a login without it, and serves one with it."""
    server.run_sql("SET GLOBAL require_secure_transport = ON")
    try:
        with pytest.raises(
            DatabaseUnavailable, match=r"insecure transport are prohibited .* \(error 3159\)"
        ):
            await connect(route("tcp", server, certificates)).fetch(statement("SELECT 1"))
        database = connect(route("tls", server, certificates))
        assert (await database.fetch(statement("SHOW SESSION STATUS LIKE 'Ssl_version'"))).rows[0][
            1
        ] == b"TLSv1.3"
    finally:
        server.run_sql("SET GLOBAL require_secure_transport = OFF")


async def test_no_key(server: Mysql9, connect: Connect, certificates: Certificates) -> None:
    """A server without an RSA key cannot let anybody in by plain TCP before it knows the hash.

    The text says what to do.
    """
    server.settings = [
        f"--caching-sha2-password-{half}-key-path=none.pem" for half in ("private", "public")
    ]
    server.restart()
    try:
        with pytest.raises(
            DatabaseUnavailable,
            match="gave no key to encrypt the password with: configure tls, or use its UNIX socket",
        ):
            await connect(route("tcp", server, certificates)).fetch(statement("SELECT 1"))
        for name in ("tls", "tcp"):  # the login over TLS has told the server the hash
            assert (
                await connect(route(name, server, certificates)).fetch(mailbox(b"user@example.com"))
            ).rows == USER_ROW
    finally:
        server.settings = []
        server.restart()


async def test_lookups(connect: Connect, settings: MysqlSettings) -> None:
    """Rows, NULL, no row, a procedure's rows and a long result come as they are on every route."""
    database = connect(settings)
    present, absent = await asyncio.gather(
        database.fetch(mailbox(b"user@example.com")), database.fetch(mailbox(b"nobody@example.com"))
    )
    assert present.rows == USER_ROW
    assert (absent.columns, absent.rows) == (("maildir",), ())
    row = await database.fetch(
        statement("SELECT maildir, quota FROM mailbox WHERE username = '%s'", b"empty@example.com")
    )
    assert row.rows == ((b"", None),)
    assert (await database.fetch(statement("SELECT REPEAT('x', 300000)"))).rows == (
        (b"x" * 300_000,),
    )
    numbers = (
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900) "
        "SELECT a.i FROM n a, n b LIMIT 20000"
    )
    assert sum([len(rows) async for _, rows in database.stream(statement(numbers))]) == 20_000


async def test_procedure(server: Mysql9, connect: Connect) -> None:
    """A procedure's rows are its answer."""
    server.run_sql(
        "DROP PROCEDURE IF EXISTS find; CREATE PROCEDURE find(k TEXT) SELECT maildir FROM mailbox WHERE username = k",
        database=DBNAME,
    )
    database = connect(settings_for(server))
    assert (
        await database.fetch(statement("CALL find('%s')", b"user@example.com"))
    ).rows == USER_ROW
    assert (await database.fetch(statement("CALL find('%s')", b"nobody@example.com"))).rows == ()


async def test_read_only(server: Mysql9, connect: Connect) -> None:
    """A session may not write, whatever the account may, unless read_only is off."""
    server.grant("writer", PASSWORD, DBNAME, "ALL")
    write = statement(
        "INSERT INTO old VALUES ('written@example.com', '')", require_result_set=False
    )
    with pytest.raises(SchemaError, match=r"read-only session.*read_only = false.* \(error 1792\)"):
        await connect(settings_for(server, user="writer")).fetch(write)
    assert server.run_sql("SELECT 1 FROM old WHERE maildir = ''", database=DBNAME) == []
    await connect(settings_for(server, user="writer", read_only=False)).fetch(write)
    assert server.run_sql(
        "DELETE FROM old WHERE maildir = ''; SELECT ROW_COUNT()", database=DBNAME
    ) == [(1,)]


@pytest.mark.parametrize("charset", ["utf8mb4", "latin1", "binary", "gbk", "sjis"])
@pytest.mark.parametrize("mode", MODES)
async def test_quoting(server: Mysql9, connect: Connect, mode: str, charset: str) -> None:
    """A hostile key is one string in every mode: never a syntax error, never a second row.

    A valid one comes back as it was.
    """
    before = server.run_sql("SELECT @@GLOBAL.sql_mode")[0][0]
    server.run_sql("SET GLOBAL sql_mode = %s", mode)
    try:
        database = connect(settings_for(server, charset=charset))
        for key in HOSTILE:
            query = statement(
                "SELECT '%s' FROM mailbox WHERE BINARY '%s' = BINARY username OR maildir = ''",
                key,
                key,
            )
            with suppress(
                DataError
            ):  # the server may find the bytes invalid; anything else it may not say
                rows = (await database.fetch(query)).rows
                assert len(rows) == 1, key
                if charset in ("latin1", "binary") or (
                    charset == "utf8mb4" and key.decode(errors="replace").encode() == key
                ):
                    assert rows == ((key,),)
    finally:
        server.run_sql("SET GLOBAL sql_mode = %s", before)


@pytest.mark.parametrize("key", ["user😀@example.com".encode(), b"user\xff@example.com"])
async def test_key_stays_alone(
    server: Mysql9, connect: Connect, record: Record, key: bytes
) -> None:
    """A key that cannot be compared with a latin1 column, or is no UTF-8, fails alone.

    The next is answered on the same connection.
    """
    database = connect(settings_for(server, pool_size=1))
    sql = "SELECT maildir FROM old WHERE username = '%s'"
    assert (await database.fetch(statement(sql, b"user@example.com"))).rows == ((b"old/user/",),)
    before = server.connections(USER)
    with pytest.raises(DataError):
        await database.fetch(statement(sql, key))
    assert (await database.fetch(statement(sql, b"user@example.com"))).rows == ((b"old/user/",),)
    assert server.connections(USER) == before
    assert record.states == []


@pytest.mark.parametrize(
    "case",
    [
        ("SELECT user_mail FROM mailbox", SchemaError, 1054),
        ("SELECT 1 FROM mailbx", SchemaError, 1146),
        ("SELEC 1", SchemaError, 1064),
        ("SELECT 1 FROM mysql.user", SchemaError, 1142),
        ("SELECT 1 FROM mysql.tables", SchemaError, 3554),
        ("CALL nothing()", SchemaError, 1305),
        ("SELECT nothing(1)", SchemaError, 1305),
        ("SELECT 1 UNION SELECT 1, 2", SchemaError, 1222),
        ("SELECT 1 FROM mailbox a, old a", SchemaError, 1066),
        ("SELECT DISTINCT maildir FROM mailbox ORDER BY username", SchemaError, 3065),
        ("SELECT maildir FROM mailbox GROUP BY quota", SchemaError, 1055),
        ("SELECT maildir, COUNT(*) FROM mailbox", SchemaError, 1140),
        ("SELECT maildir FROM mailbox WHERE MATCH (maildir) AGAINST ('x')", SchemaError, 1191),
        ("SELECT BINARY username REGEXP 'a' FROM mailbox", SchemaError, 3995),
        ("SELECT 'a' COLLATE utf8mb4_bin = 'a' COLLATE utf8mb4_general_ci", DataError, 1267),
        ("SELECT 1 FROM mailbox WHERE username = _utf8mb4 X'FF'", DataError, 1300),
        ("SELECT 1 FROM old WHERE username = '😀'", DataError, 3854),
        ("SELECT (SELECT username FROM mailbox)", DataError, 1242),
        ("SELECT 18446744073709551615 + 1", DataError, 1690),
        ("SELECT 'a' REGEXP '('", DataError, 3691),
        ("SELECT 'a' REGEXP '['", DataError, 3696),
        ("SELECT 'a' REGEXP '*'", DataError, 3688),
        ("SELECT 'a' REGEXP 'a{2,1}'", DataError, 3693),
        ("SELECT JSON_EXTRACT('x', '$')", DataError, 3141),
        ("SELECT UUID_TO_BIN('x')", DataError, 1411),
        (
            "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i FROM n) SELECT * FROM n",
            DataError,
            3636,
        ),
        ("KILL QUERY CONNECTION_ID()", DatabaseUnavailable, 1317),
        (
            LONG_QUERY.replace("SELECT", "SELECT /*+ MAX_EXECUTION_TIME(20) */", 1),
            DatabaseUnavailable,
            3024,
        ),
    ],
    ids=lambda case: f"{case[2]}-{case[0][:20]}",
)
async def test_kinds(
    server: Mysql9, connect: Connect, record: Record, case: tuple[str, type[DatabaseError], int]
) -> None:
    """The server's own refusals are blamed as MariaDB's are: none takes the host down or costs the connection."""
    sql, kind, number = case
    database = connect(settings_for(server, pool_size=1))
    await database.fetch(statement("SELECT 1"))
    before = server.connections(USER)
    with pytest.raises(DatabaseError, match=rf"\(error {number}\)") as caught:
        await database.fetch(statement(sql))
    assert type(caught.value) is kind
    assert (await database.fetch(mailbox(b"user@example.com"))).rows == USER_ROW
    if not sql.startswith("CALL"):  # after a procedure that failed, the session may be in any state
        assert server.connections(USER) == before
    assert record.states == []


async def test_unknown_database_in_query(server: Mysql9, connect: Connect, record: Record) -> None:
    """A query that names a database which is not there fails alone, though the number is that of a
    login to an unknown database.
    """
    server.grant("reads_all", PASSWORD, DBNAME)
    server.run_sql("GRANT SELECT ON *.* TO reads_all@localhost")
    database = connect(settings_for(server, user="reads_all", pool_size=1))
    await database.fetch(statement("SELECT 1"))
    before = server.connections("reads_all")
    with pytest.raises(SchemaError, match=r"Unknown database 'nowhere' \(error 1049\)"):
        await database.fetch(statement("SELECT 1 FROM nowhere.mailbox"))
    assert server.connections("reads_all") == before
    assert record.states == []


async def test_database_dropped(server: Mysql9, connect: Connect, record: Record) -> None:
    """A host whose database has gone is down until it is back."""
    server.run_sql("CREATE DATABASE brief; CREATE TABLE brief.one AS SELECT 1 AS one")
    server.grant("brief", PASSWORD, "brief")
    database = connect(settings_for(server, user="brief", dbname="brief"))
    assert (await database.fetch(statement("SELECT one FROM one"))).rows == ((b"1",),)
    server.run_sql("DROP DATABASE brief")
    with pytest.raises(DatabaseUnavailable, match="Unknown database 'brief'"):
        await database.fetch(statement("SELECT one FROM one"))
    server.run_sql("CREATE DATABASE brief; CREATE TABLE brief.one AS SELECT 1 AS one")
    await until(lambda: database.status()[0].up)
    assert (await database.fetch(statement("SELECT one FROM one"))).rows == ((b"1",),)
    assert [up for _, up in record.states] == [False, True]


async def test_killed_idle(
    server: Mysql9, connect: Connect, record: Record, settings: MysqlSettings
) -> None:
    """A pooled connection that the server has killed is replaced without a failed lookup."""
    database = connect(settings)
    for _ in range(5):
        assert (await database.fetch(mailbox(b"user@example.com"))).rows == USER_ROW
        server.kill_connections(USER)
    assert {outcome for _, outcome in record.queries} == {"ok"}
    assert record.states == []


async def test_killed_in_flight(
    server: Mysql9, connect: Connect, record: Record, settings: MysqlSettings
) -> None:
    """A query whose connection is killed under it is run again on a fresh one."""
    database = connect(settings)
    slow = asyncio.create_task(database.fetch(statement("SELECT SLEEP(0.3), 'done'")))
    running = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = %s AND info LIKE 'SELECT SLEEP%%'"
    await until(lambda: server.run_sql(running, USER) == [(1,)])
    server.kill_connections(USER)
    assert (await slow).rows == ((b"0", b"done"),)
    assert {outcome for _, outcome in record.queries} == {"ok"}
    assert record.states == []


async def test_query_timeout(server: Mysql9, connect: Connect) -> None:
    """A query that runs beyond query_timeout ends in time, here and on the server."""
    database = connect(settings_for(server, query_timeout=0.2))
    with pytest.raises(DatabaseUnavailable, match=r"query took too long|within query_timeout"):
        await database.fetch(statement(LONG_QUERY))
    running = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = %s AND info LIKE 'SELECT COUNT%%'"
    await until(lambda: server.run_sql(running, USER) == [(0,)])


async def test_restart(server: Mysql9, connect: Connect, settings: MysqlSettings) -> None:
    """A restart between lookups is not noticed, though the server has forgotten every password's hash."""
    database = connect(settings)
    assert (await database.fetch(mailbox(b"user@example.com"))).rows == USER_ROW
    server.restart()
    assert (await database.fetch(mailbox(b"user@example.com"))).rows == USER_ROW
