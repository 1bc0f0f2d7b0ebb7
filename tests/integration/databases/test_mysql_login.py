"""Logging in, and what is expected of aiomysql's inside (see mailmapd.databases.mysql.library_login)."""

from __future__ import annotations

import asyncio
import getpass
import inspect
import os
import struct
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import aiomysql
import pytest

from mailmapd.databases.mysql.database import MysqlDatabase
from mailmapd.databases.settings import MysqlSettings
from mailmapd.errors import DatabaseUnavailable, SchemaError
from support.mariadb import MariaDB
from support.mysql_lookups import (
    DBNAME,
    PASSWORD,
    USER,
    Connect,
    Record,
    mailbox,
    settings_for,
    statement,
)
from support.polling import until
from support.sha2_server import Sha2Server


def test_inside_of_aiomysql() -> None:
    """The installed aiomysql has the methods and attributes that the login builds on."""
    assert aiomysql.__version__ == os.environ.get("MAILMAPD_AIOMYSQL", version("aiomysql"))
    connection = aiomysql.Connection
    for name in (
        "_connect",
        "_read_bytes",
        "_get_server_information",
        "_process_auth",
        "sha256_password_auth",
    ):
        assert inspect.iscoroutinefunction(getattr(connection, name)), name
    assert list(inspect.signature(connection._process_auth).parameters) == [
        "self",
        "plugin_name",
        "auth_packet",
    ]
    assert list(inspect.signature(connection.write_packet).parameters) == ["self", "payload"]
    made = inspect.getsource(connection.__init__)
    for name in (
        "client_flag",
        "_writer",
        "_reader",
        "_server_auth_plugin",
        "_ssl_context",
        "_secure",
        "salt",
    ):
        assert f"self.{name} = " in made, name
    asked = inspect.getsource(connection._request_authentication)
    assert "self._server_auth_plugin" in asked
    assert "self._process_auth(" in asked
    greeting = inspect.getsource(connection._get_server_information)
    for name in ("server_capabilities", "server_version", "_server_auth_plugin"):
        assert f"self.{name} = " in greeting, name


async def test_multi_statements_off(lookup_server: MariaDB, connect: Connect) -> None:
    """The server itself refuses a query that holds several statements."""
    with pytest.raises(SchemaError, match="SQL syntax error"):
        await connect(settings_for(lookup_server)).fetch(statement("SELECT 1; SELECT 2"))


async def refusal(database: MysqlDatabase) -> str:
    with pytest.raises(DatabaseUnavailable) as caught:
        await database.fetch(statement("SELECT 1"))
    assert PASSWORD not in str(caught.value)
    assert not database.status()[0].up
    return str(caught.value)


async def test_wrong_password(lookup_server: MariaDB, connect: Connect, record: Record) -> None:
    """A refused login names host and user, says so to the observer, and hides the password."""
    text = await refusal(connect(settings_for(lookup_server, password="s3cret")))
    assert f"Access denied for user '{USER}'" in text
    assert str(lookup_server.socket) in text
    assert "s3cret" not in text
    assert record.states == [(f"unix:{lookup_server.socket}", False)]
    assert {outcome for _, outcome in record.queries} == {"unavailable"}


async def test_unknown_database(lookup_server: MariaDB, connect: Connect) -> None:
    """An unknown database name is named."""
    lookup_server.run_sql(f"GRANT SELECT ON nowhere.* TO {USER}@localhost")
    assert "Unknown database 'nowhere'" in await refusal(
        connect(settings_for(lookup_server, dbname="nowhere"))
    )


async def test_no_server(tmp_path: Path, connect: Connect) -> None:
    """A missing socket and a closed port say what is missing."""
    missing = await refusal(connect(MysqlSettings(hosts=(f"unix:{tmp_path}/none.sock",))))
    assert "none.sock: cannot connect: No such file or directory" in missing
    assert "cannot connect: Connection refused" in await refusal(
        connect(MysqlSettings(hosts=("127.0.0.1:1",)))
    )


async def test_unknown_name(connect: Connect) -> None:
    """A host name that does not resolve is unavailable, not a crash."""
    assert "no-such-host.invalid" in await refusal(
        connect(MysqlSettings(hosts=("no-such-host.invalid",), connect_timeout=10.0))
    )


async def test_recovers_from_refusal(
    make_lookup_server: Callable[..., MariaDB], connect: Connect, record: Record
) -> None:
    """Once the account is mended, lookups work without a restart."""
    server = make_lookup_server()
    server.run_sql(f"ALTER USER {USER}@localhost IDENTIFIED BY 'changed'")
    database = connect(settings_for(server))
    await refusal(database)
    server.run_sql(f"ALTER USER {USER}@localhost IDENTIFIED BY %s", PASSWORD)
    async with asyncio.timeout(10):
        while not database.status()[0].up:  # noqa: ASYNC110  # the probe finds it
            await asyncio.sleep(0.01)
    assert (await database.fetch(mailbox(b"user@example.com"))).rows
    assert [up for _, up in record.states] == [False, True]


async def test_option_file(lookup_server: MariaDB, connect: Connect, tmp_path: Path) -> None:
    """User, password, database and socket may all come from an option file."""
    path = tmp_path / "my.cnf"
    escaped = PASSWORD.replace("\\", "\\\\")
    path.write_text(
        f"[client]\nuser={USER}\npassword={escaped}\n[lookups]\nsocket={lookup_server.socket}\ndatabase={DBNAME}\n"
    )
    database = connect(MysqlSettings(option_file=str(path), option_group="lookups"))
    assert (await database.fetch(mailbox(b"user@example.com"))).rows == ((b"example.com/user/",),)


async def test_login_methods(make_lookup_server: Callable[..., MariaDB], connect: Connect) -> None:
    """A UNIX account needs no password; a method that is not supported is named, with those to take instead."""
    server = make_lookup_server()
    server.run_sql("INSTALL SONAME 'auth_ed25519'")
    server.run_sql("CREATE USER 'ed'@'localhost' IDENTIFIED VIA ed25519 USING PASSWORD('x')")
    text = await refusal(connect(settings_for(server, user="ed", password="x")))
    assert "client_ed25519" in text
    assert "mysql_native_password" in text
    user = getpass.getuser()
    verb = "ALTER" if user == "root" else "CREATE"
    server.run_sql(f"{verb} USER '{user}'@'localhost' IDENTIFIED VIA unix_socket")
    server.grant("other", "x", DBNAME)
    if user != "root":
        server.run_sql(f"GRANT SELECT ON {DBNAME}.* TO '{user}'@'localhost'")
    assert (
        await connect(settings_for(server, user=user, password="")).fetch(
            mailbox(b"user@example.com")
        )
    ).rows


@pytest.mark.parametrize("switch", [False, True])
@pytest.mark.parametrize("knows_hash", [False, True])
async def test_caching_sha2(connect: Connect, switch: bool, knows_hash: bool) -> None:
    """MySQL 8's login works without TLS, by the known hash or under the server's key, and never
    gives the password in clear.
    """
    with Sha2Server(PASSWORD.encode(), knows_hash=knows_hash, switch=switch) as server:
        host = f"127.0.0.1:{server.port}"
        database = connect(MysqlSettings(hosts=(host,), user="mail", password=PASSWORD))
        assert (await database.fetch(statement("SELECT 1"))).rows == ((b"mail",),)
        await database.close()
        database = connect(MysqlSettings(hosts=(host,), user="mail", password="wrong"))
        assert "Access denied" in await refusal(database)
        await database.close()
    assert "clear" not in server.ways
    assert server.ways[0] == ("hash" if knows_hash else "rsa")


async def test_strange_key(connect: Connect) -> None:
    """A server whose public key is of a kind that the library does not know is unavailable, and its
    host is tried again.
    """
    curve = (
        b"MDIwEAYHKoZIzj0CAQYFK4EEAAYDHgAEZRoTTgyfjsTwhUAciJ/NzCHTcVztQYzY\n6uv2aw==\n"  # secp112r1
    )
    key = b"-----BEGIN PUBLIC KEY-----\n" + curve + b"-----END PUBLIC KEY-----\n"
    with Sha2Server(b"s3cret", key=key) as server:
        database = connect(
            MysqlSettings(hosts=(f"127.0.0.1:{server.port}",), user="mail", password="s3cret")
        )
        assert "UnsupportedAlgorithm" in await refusal(database)
        await until(lambda: len(server.ways) > 2)
        await database.close()


async def test_connection_limit(
    make_lookup_server: Callable[..., MariaDB], connect: Connect, record: Record
) -> None:
    """When the server lets in fewer connections than the pool would open, lookups share those, and
    the host stays up.
    """
    server = make_lookup_server()
    server.run_sql(f"ALTER USER {USER}@localhost WITH MAX_USER_CONNECTIONS 2")
    database = connect(settings_for(server))
    results = await asyncio.gather(
        *[
            database.fetch(statement("SELECT SLEEP(0.01), %s", b"%d" % number))
            for number in range(60)
        ]
    )
    assert [result.rows[0][1] for result in results] == [b"%d" % number for number in range(60)]
    assert record.states == []
    assert database.status()[0].idle == 2


@pytest.mark.parametrize(
    "greeting",
    [
        b"",
        b"220 mail.example.com ESMTP Postfix\r\n",
        b"\x01\0\0\0\xff",
        b"\x05\0\0\0\x0a5.5",
        bytes(100),
        b"\x10\0\0\0" + bytes(16),
    ],
)
async def test_not_a_server(connect: Connect, greeting: bytes) -> None:
    """Something else on the port is unavailable, whatever it says."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        assert f"127.0.0.1:{port}: " in await refusal(
            connect(MysqlSettings(hosts=(f"127.0.0.1:{port}",), connect_timeout=5.0))
        )


async def test_password_never_in_clear(connect: Connect) -> None:
    """A server that asks for the password in clear does not get it."""
    heard = bytearray()

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        capabilities = 0x81FFF7FF & ~0x800
        low, high = struct.pack("<H", capabilities & 0xFFFF), struct.pack("<H", capabilities >> 16)
        greeting = (
            b"\x0a8.0.0\0"
            + bytes(4)
            + b"12345678\0"
            + low
            + b"\x2d\x02\0"
            + high
            + b"\x15"
            + bytes(10)
            + b"123456789012\0"
        )
        greeting += b"mysql_clear_password\0"
        writer.write(len(greeting).to_bytes(4, "little") + greeting)
        heard.extend(await reader.read(4096))
        switch = b"\xfemysql_clear_password\0"
        writer.write(len(switch).to_bytes(3, "little") + b"\x02" + switch)
        heard.extend(await reader.read(4096))
        writer.close()

    async with await asyncio.start_server(ask, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        text = await refusal(
            connect(MysqlSettings(hosts=(f"127.0.0.1:{port}",), user="u", password="s3cret"))
        )
    assert "mysql_clear_password" in text
    assert b"u\0" in heard
    assert b"s3cret" not in heard
