"""A database server that sends without end, or wants a login that gives the password away, costs its answers only."""

from __future__ import annotations

import asyncio

import pytest

from mailmapd.databases.host_list import parse_host
from mailmapd.databases.mysql.connection import MAX_SETTING, PreparingOwner
from mailmapd.databases.mysql.database import MysqlDatabase
from mailmapd.databases.mysql.library_login import MAX_LOGIN
from mailmapd.databases.mysql.opener import MysqlOpener
from mailmapd.databases.mysql.stream import RowStream
from mailmapd.databases.mysql.wire import MAX_RESULT, MAX_ROW
from mailmapd.databases.settings import MysqlSettings
from mailmapd.errors import DatabaseError, DatabaseUnavailable, DataError
from support.hostile_database import (
    CACHING,
    CAPABILITIES,
    EOF,
    OK,
    SALT,
    Behaviour,
    Peer,
    column,
    greeting,
    hostile_database,
    switch_to,
)
from support.mysql_lookups import statement

SLACK = 8 * 1024 * 1024
"""What the kernel's buffers on both sides take beside what we read, in bytes."""

PIECE = bytes(65_536)
LONGEST = b"\xff\xff\xff"


class Flood:
    """A flood: what a server could send before we had enough."""

    def __init__(self) -> None:
        self.sent = 0

    async def send(self, peer: Peer, data: bytes) -> None:
        """Send bytes and count them."""
        await peer.raw(data)
        self.sent += len(data)

    async def chained(self, peer: Peer) -> None:
        """Send packets of the longest kind, each of which promises another, for ever."""
        while True:
            await self.send(peer, LONGEST + bytes([peer.number]))
            for _ in range(255):
                await self.send(peer, PIECE)
            await self.send(peer, bytes(0xFFFFFF - 255 * len(PIECE)))
            peer.number = (peer.number + 1) & 0xFF

    async def repeated(self, peer: Peer, payload: bytes) -> None:
        """Send one packet for ever."""
        while True:
            pieces = []
            for _ in range(256):
                pieces.append(len(payload).to_bytes(3, "little") + bytes([peer.number]) + payload)
                peer.number = (peer.number + 1) & 0xFF
            await self.send(peer, b"".join(pieces))


def settings(port: int) -> MysqlSettings:
    return MysqlSettings(
        hosts=(f"127.0.0.1:{port}",),
        user="mail",
        password="s3cret",
        connect_timeout=20.0,
        query_timeout=20.0,
        queue_timeout=20.0,
    )


async def failure(behave: Behaviour) -> DatabaseError:
    """Ask such a server, and return what became of it."""
    async with hostile_database(behave) as port:
        database = MysqlDatabase("mail", settings(port), probe_interval=60.0)
        try:
            with pytest.raises(DatabaseError) as caught:
                async with asyncio.timeout(60):
                    await database.fetch(statement("SELECT 1"))
        finally:
            await database.close()
    return caught.value


async def test_before_the_greeting() -> None:
    """Packets without end before the greeting end with the login's limit."""
    flood = Flood()
    error = await failure(flood.chained)
    assert f"more than {MAX_LOGIN} bytes before the login ends" in str(error)
    assert flood.sent < SLACK


@pytest.mark.parametrize("after", [b"", switch_to(CACHING)], ids=["response", "switch"])
async def test_while_logging_in(after: bytes) -> None:
    """Packets without end behind the login's first answer, or a change of its method, end at the same limit."""
    flood = Flood()

    async def behave(peer: Peer) -> None:
        await peer.send(greeting())
        await peer.receive()
        if after:
            await peer.send(after)
            await peer.receive()
        await flood.chained(peer)

    assert f"more than {MAX_LOGIN} bytes" in str(await failure(behave))
    assert flood.sent < SLACK


async def test_while_the_session_is_made() -> None:
    """Result sets without end in answer to a setting end at a limit of their own."""
    flood = Flood()

    async def behave(peer: Peer) -> None:
        flood.sent = 0
        await peer.log_in()
        await peer.receive()
        await flood.repeated(peer, b"\0\0\0\x0a\0\0\0")

    assert f"larger than {MAX_SETTING} bytes" in str(await failure(behave))
    assert flood.sent < SLACK


@pytest.mark.parametrize("what", ["rows", "nulls", "columns", "chained"])
async def test_a_reply(what: str) -> None:
    """Rows, NULLs, columns and packets without end are this query's failure, far below what would hurt."""
    flood = Flood()

    async def behave(peer: Peer) -> None:
        await peer.log_in()
        await peer.command()
        await peer.send(b"\xfc\x00\x02" if what == "nulls" else b"\x01")
        if what == "columns":
            await flood.repeated(peer, column())
        for _ in range(512 if what == "nulls" else 1):
            await peer.send(column())
        await peer.send(EOF)
        if what == "chained":
            await flood.chained(peer)
        await flood.repeated(peer, b"\xfb" * 512 if what == "nulls" else b"\x00")

    error = await failure(behave)
    assert isinstance(error, DataError | DatabaseUnavailable)
    assert flood.sent < 2 * (MAX_RESULT + SLACK)


@pytest.mark.parametrize("what", ["byte by byte", "chained"])
async def test_a_stream(what: str) -> None:
    """A long result whose rows never end, or come byte by byte, is given up."""
    flood = Flood()

    async def behave(peer: Peer) -> None:
        await peer.log_in()
        await peer.command()
        await peer.send(b"\x01", column(), EOF)
        if what == "chained":
            await flood.chained(peer)
        await peer.raw(b"\x00\x10\x00" + bytes([peer.number]) + b"\xfc\xfd\x0f")
        while True:
            await peer.raw(b"x")
            await asyncio.sleep(0.02)

    async with hostile_database(behave) as port:
        made = settings(port)
        connection = await MysqlOpener(made).open(parse_host(made.hosts[0]), PreparingOwner())
        stream = RowStream(connection, statement("SELECT 1"), 10, 2.0)
        async with asyncio.timeout(60):
            with pytest.raises(DatabaseUnavailable, match=r"no rows for 2 s|a packet of more than"):
                async for _ in stream.rows():
                    pass
        stream.abort()
    assert flood.sent < 2 * (MAX_ROW + SLACK)


OLD = CAPABILITIES & ~0x80000
"""A server that does not know named methods, as before 5.5.7."""


@pytest.mark.parametrize(
    ("hello", "switch"),
    [
        (greeting(), b"\xfemysql_clear_password\0"),
        (greeting(b"mysql_clear_password"), b"\xfemysql_clear_password\0"),
        (greeting(b"mysql_old_password"), b"\xfemysql_old_password\0" + SALT[:8] + b"\0"),
        (greeting(b"", OLD), b"\xfe"),
        (greeting(b"", OLD & ~0x8000), b"\xfe"),
        (greeting(), b"\xfedialog\0\x04password"),
    ],
    ids=["clear", "clear at once", "old", "nameless", "before 4.1", "dialog"],
)
async def test_methods_that_give_the_password_away(hello: bytes, switch: bytes) -> None:
    """Nothing that a password could be read or guessed from goes to a server that asks for such a method."""
    heard: list[bytes] = []

    async def behave(peer: Peer) -> None:
        await peer.send(hello)
        heard.append(await peer.receive())
        await peer.send(switch)
        heard.append(await peer.receive())
        await peer.send(OK)

    error = await failure(behave)
    assert "not supported" in str(error) or "not safe" in str(error)
    assert len(heard) <= 1
    assert b"s3cret" not in b"".join(heard)
