from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from mailmapd.cache import TableCache
from mailmapd.config.address import UnixAddress
from mailmapd.config.schema import CacheSection, LimitsSection, ListenAddress, Seconds
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.maps.map import Map, MapTable
from mailmapd.engine.maps.service import MapService
from mailmapd.engine.origin import QueryOrigin
from mailmapd.engine.table import Table
from mailmapd.protocols import SocketmapCodec
from mailmapd.search import Search
from mailmapd.server.connection import DRAIN_GRACE
from mailmapd.server.conversation import MapConversation
from mailmapd.server.flow_control import READ_AHEAD, WRITE_AHEAD
from mailmapd.server.listener import Listener
from mailmapd.server.reply_cache import ReplyCache
from mailmapd.sockets.binding import bind_socket
from mailmapd.sockets.clients import SWEEP_INTERVAL
from mailmapd.sockets.doorway import AT_ONCE
from mailmapd.template.fold import fold
from mailmapd.template.mysql_table import MysqlTable
from support.clock import FakeClock
from support.memory_database import MemoryDatabase
from support.polling import until
from support.strangers import connect_as_nobody


def ask(key: bytes, name: bytes = b"m") -> bytes:
    request = name + b" " + key
    return b"%d:%b," % (len(request), request)


class Served:
    """A listener over a memory database, on a socket of its own."""

    def __init__(self, folder: Path, *, peers: tuple[str, ...], limits: LimitsSection) -> None:
        self.path = str(folder / "s")
        self.clock = FakeClock()
        self.database = MemoryDatabase(
            "mail",
            {(b"user",): [(b"value",)], (b"fast",): [(b"quick",)], (b"big",): [(b"x" * 90_000,)]},
        )
        definition = PostfixDefinition(MysqlTable.compile("t", b"SELECT '%s'"))
        table = Table(
            "t",
            QueryOrigin("t", definition, self.database, self.clock),
            TableCache(CacheSection()),
            self.clock,
        )
        self.service = MapService("socketmap", self.clock)
        self.replies = ReplyCache()
        self.service.serve(
            {
                "m": Map(
                    "m",
                    [MapTable(table, definition, fold=fold)],
                    Search.compile("exact"),
                    self.clock,
                )
            }
        )
        entry = ListenAddress(address=UnixAddress(self.path), peers=peers)
        self.listener = Listener(
            "socketmap",
            entry,
            bind_socket(entry),
            converse=lambda: MapConversation(SocketmapCodec(), self.service, self.replies),
            limits=limits,
            clock=self.clock,
        )

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open one more connection."""
        return await asyncio.open_unix_connection(self.path, limit=2**24)


@pytest.fixture
async def serve(short_path: Path) -> AsyncIterator[Callable[..., Served]]:
    """Make listeners that end with the test."""
    async with contextlib.AsyncExitStack() as stack:

        def make(*, peers: tuple[str, ...] = (), limits: LimitsSection | None = None) -> Served:
            served = Served(short_path, peers=peers, limits=limits or LimitsSection())
            stack.callback(served.listener.close)
            stack.callback(served.listener.stop_accepting)
            return served

        yield make
        await stack.aclose()
        await asyncio.sleep(0.01)


@contextlib.contextmanager
def closing(*writers: asyncio.StreamWriter) -> Iterator[None]:
    try:
        yield
    finally:
        for writer in writers:
            writer.close()


def transport_of(writer: asyncio.StreamWriter) -> asyncio.Transport:
    """Return a client's transport, which reads, too."""
    assert isinstance(writer.transport, asyncio.Transport)
    return writer.transport


async def test_answers(serve: Callable[..., Served]) -> None:
    """A query gets its reply, from the database first and from memory then."""
    served = serve()
    await served.listener.start()
    reader, writer = await served.connect()
    with closing(writer):
        for _ in range(2):
            writer.write(ask(b"user"))
            assert await reader.readexactly(11) == b"8:OK value,"
    assert len(served.database.asked) == 1
    assert served.service.meters["m"].results == [2, 0, 0, 0]


@pytest.mark.root
@pytest.mark.parametrize("peers", [("daemon",), ()])
async def test_very_many_who_connect_at_once(
    serve: Callable[..., Served], short_path: Path, peers: tuple[str, ...]
) -> None:
    """Clients that all wait at the door come in, or are sent away, a few at a time, with lookups in between."""
    served = serve(peers=peers, limits=LimitsSection(max_connections=1000))
    await served.listener.start()
    reader, writer = await served.connect()
    with closing(writer):
        writer.write(ask(b"user"))
        await reader.readexactly(11)
        waiting = connect_as_nobody(short_path / "s", 100)
        settled = served.listener.meter.refused if peers else 0
        turns = 0
        while settled < 100:
            turns += 1
            await asyncio.sleep(0)
            settled = (
                served.listener.meter.refused if peers else len(served.listener.connections) - 1
            )
        assert turns >= 100 // AT_ONCE
        writer.write(ask(b"user"))
        await reader.readexactly(11)
        for client in waiting:
            client.close()


@pytest.mark.root
async def test_nobody_keeps_others_out_by_holding_places(
    serve: Callable[..., Served], short_path: Path
) -> None:
    """Who comes when all places are taken gets one of whoever has most of them; who has most gets no more."""
    served = serve(limits=LimitsSection(max_connections=20))
    await served.listener.start()
    strangers = connect_as_nobody(short_path / "s", 20)
    await until(lambda: len(served.listener.connections) == 20)
    kept = [await served.connect() for _ in range(5)]
    for reader, writer in kept:
        writer.write(ask(b"user"))
        assert await reader.readexactly(11) == b"8:OK value,"
    assert len(served.listener.connections) == 20
    more = connect_as_nobody(short_path / "s", 3)
    await until(lambda: served.listener.meter.refused == 3)
    ended = [client for client in strangers if heard_nothing_more(client)]
    assert len(ended) == 5
    for reader, writer in kept:
        writer.write(ask(b"user"))
        assert await reader.readexactly(11) == b"8:OK value,"
        writer.close()
    for client in [*strangers, *more]:
        client.close()


def heard_nothing_more(client: socket.socket) -> bool:
    """Return whether a client's connection has ended."""
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


async def test_order(serve: Callable[..., Served]) -> None:
    """A fast answer never overtakes a slow one on the same connection; other connections do not wait."""
    served = serve()
    await served.listener.start()
    reader, writer = await served.connect()
    other_reader, other_writer = await served.connect()
    with closing(writer, other_writer):
        writer.write(ask(b"fast"))
        await reader.readexactly(11)
        served.database.hold()
        writer.write(ask(b"user") + ask(b"fast"))
        other_writer.write(ask(b"fast"))
        assert await other_reader.readexactly(11) == b"8:OK quick,"
        served.database.release()
        assert await reader.readexactly(22) == b"8:OK value,8:OK quick,"


async def test_split(serve: Callable[..., Served]) -> None:
    """A query that comes byte by byte is answered once it is whole."""
    served = serve()
    await served.listener.start()
    reader, writer = await served.connect()
    with closing(writer):
        for byte in ask(b"user"):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert await reader.readexactly(11) == b"8:OK value,"


async def test_half_closed(serve: Callable[..., Served]) -> None:
    """A client that says no more still gets the answers to what it asked."""
    served = serve()
    await served.listener.start()
    reader, writer = await served.connect()
    with closing(writer):
        writer.write(ask(b"user") + ask(b"none"))
        writer.write_eof()
        assert await reader.read() == b"8:OK value,9:NOTFOUND ,"


async def test_violation(serve: Callable[..., Served], caplog: pytest.LogCaptureFixture) -> None:
    """Garbage closes its own connection after the answers to what came before it, is logged and
    counted once, and hurts nobody else.
    """
    served = serve()
    await served.listener.start()
    reader, writer = await served.connect()
    other_reader, other_writer = await served.connect()
    with closing(writer, other_writer), caplog.at_level(logging.WARNING):
        writer.write(ask(b"user") + b"garbage" * 100)
        assert await reader.read() == b"8:OK value,"
        other_writer.write(ask(b"user"))
        assert await other_reader.readexactly(11) == b"8:OK value,"
    assert sum(served.listener.meter.violations.values()) == 1
    assert len([record for record in caplog.records if record.name.startswith("mailmapd")]) == 1
    assert "garbage" not in caplog.text


async def test_unknown_map(serve: Callable[..., Served]) -> None:
    """A map that is not configured is a permanent failure, and its name becomes no label."""
    served = serve()
    await served.listener.start()
    reader, writer = await served.connect()
    with closing(writer):
        writer.write(ask(b"user", b"nothere"))
        assert (await reader.readuntil(b",")).startswith(b"37:PERM mailmapd has no map")
    assert set(served.service.meters) == {"", "m"}
    assert served.service.meters[""].results == [0, 0, 0, 1]


async def test_connection_limit(
    serve: Callable[..., Served], caplog: pytest.LogCaptureFixture
) -> None:
    """Above the limit clients are turned away with one log line, and let in again when there is room."""
    served = serve(limits=LimitsSection(max_connections=2))
    await served.listener.start()
    first, second = await served.connect(), await served.connect()
    with closing(first[1], second[1]), caplog.at_level(logging.ERROR):
        for _ in range(3):
            reader, writer = await served.connect()
            with closing(writer), contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert caplog.text.count("raise limits.max_connections") == 1
    await asyncio.sleep(0.01)
    reader, writer = await served.connect()
    with closing(writer):
        writer.write(ask(b"user"))
        assert await reader.readexactly(11) == b"8:OK value,"
    assert served.listener.meter.refused == 3


async def test_peers(serve: Callable[..., Served]) -> None:
    """A process of a user who is not one of the peers is turned away (root always may)."""
    served = serve(peers=("65533",))
    await served.listener.start()
    program = f"""
import os, socket
if os.getuid() == 0:
    os.setuid(65532)
client = socket.socket(socket.AF_UNIX)
client.connect({served.path!r})
client.sendall({ask(b"user")!r})
print(client.recv(99))
"""
    Path(served.path).chmod(0o666)  # noqa: ASYNC240
    process = await asyncio.create_subprocess_exec(
        "python3", "-c", program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert b"OK" not in out
    assert served.listener.meter.refused == 1


async def test_client_that_never_reads(serve: Callable[..., Served]) -> None:
    """A client that does not read its replies makes us keep a bounded number of bytes, and is closed when it stalls."""
    served = serve(limits=LimitsSection(stall_timeout=Seconds(10.0)))
    await served.listener.start()
    reader, writer = await served.connect()
    with closing(writer):
        writer.write(ask(b"big"))
        await reader.readexactly(90_000)
        transport_of(writer).pause_reading()
        writer.write(ask(b"big") * 1000)
        (connection,) = served.listener.connections
        await until(lambda: connection.stalled)
        assert connection._transport.get_write_buffer_size() < WRITE_AHEAD + 90_010
        served.clock.now += 10.0 + SWEEP_INTERVAL
        served.listener.clients.sweep()
        await until(lambda: not served.listener.connections)


async def test_client_that_only_writes(serve: Callable[..., Served]) -> None:
    """While a query waits for the database, only a bounded number of bytes is read ahead."""
    served = serve()
    await served.listener.start()
    served.database.hold()
    reader, writer = await served.connect()
    with closing(writer):
        writer.write(ask(b"user"))
        for _ in range(100):
            writer.write(ask(b"fast") * 2000)
        await until(lambda: bool(served.listener.connections))
        (connection,) = served.listener.connections
        await until(lambda: not connection._transport.is_reading())
        assert connection._conversation.buffered < READ_AHEAD + 2**19
        served.database.release()
        assert len(await reader.readexactly(11 * 200_001)) == 11 * 200_001


async def test_client_that_never_finishes(serve: Callable[..., Served]) -> None:
    """A client that sends a query byte by byte is closed when it takes too long, even if it is never silent.

    One that finishes stays.
    """
    served = serve(limits=LimitsSection(stall_timeout=Seconds(10.0)))
    await served.listener.start()
    reader, writer = await served.connect()
    other_reader, other_writer = await served.connect()
    with closing(writer, other_writer):
        for second in range(12):
            served.clock.now = float(second)
            writer.write(b"20:m xxxxxxxxxxxxxxx"[second : second + 1])
            other_writer.write(ask(b"user")[:4])
            await asyncio.sleep(0.005)
            other_writer.write(ask(b"user")[4:])
            assert await other_reader.readexactly(11) == b"8:OK value,"
        served.listener.clients.sweep()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        other_writer.write(ask(b"user"))
        assert await other_reader.readexactly(11) == b"8:OK value,"


async def test_turns(serve: Callable[..., Served]) -> None:
    """A client that sends twenty thousand queries in one go does not keep another waiting until they are answered."""
    served = serve()
    await served.listener.start()
    reader, writer = await served.connect()
    other_reader, other_writer = await served.connect()
    with closing(writer, other_writer):
        writer.write(ask(b"fast"))
        await reader.readexactly(11)
        crowd = asyncio.ensure_future(reader.readexactly(11 * 20_000))
        writer.write(ask(b"fast") * 20_000)
        for _ in range(3):
            other_writer.write(ask(b"fast"))
            await other_reader.readexactly(11)
        before = served.service.meters["m"].results[0]
        assert before < 10_000
        assert await crowd == b"8:OK quick," * 20_000


async def test_idle(serve: Callable[..., Served]) -> None:
    """A connection that asks nothing for the idle time is closed; one that does stays."""
    served = serve(limits=LimitsSection(idle_timeout=Seconds(100.0)))
    await served.listener.start()
    idle_reader, idle_writer = await served.connect()
    reader, writer = await served.connect()
    with closing(idle_writer, writer):
        await asyncio.sleep(0.01)
        served.clock.now = 60.0
        writer.write(ask(b"user"))
        await reader.readexactly(11)
        served.clock.now = 101.0
        served.listener.clients.sweep()
        assert await idle_reader.read() == b""
        assert len(served.listener.connections) == 1


async def test_drain(serve: Callable[..., Served]) -> None:
    """Draining ends idle connections after a moment and the others after their answers."""
    served = serve()
    await served.listener.start()
    idle_reader, idle_writer = await served.connect()
    reader, writer = await served.connect()
    with closing(idle_writer, writer):
        served.database.hold()
        writer.write(ask(b"user"))
        while not served.database.status()[0].busy:  # noqa: ASYNC110 (it has nobody to tell)
            await asyncio.sleep(0.01)
        served.listener.stop_accepting()
        served.listener.drain()
        assert await idle_reader.read() == b""
        served.database.release()
        assert await reader.read() == b"8:OK value,"


async def test_hanging_up_answers_what_was_sent(serve: Callable[..., Served]) -> None:
    """A query on its way when we hang up is answered.

    One sent afterwards fails at once, so that the client asks elsewhere.
    """
    served = serve()
    await served.listener.start()
    with socket.socket(socket.AF_UNIX) as early, socket.socket(socket.AF_UNIX) as late:
        for client in (early, late):
            client.connect(served.path)
            client.setblocking(False)
        await asyncio.sleep(0.01)
        early.send(ask(b"user") + ask(b"fast"))
        for connection in served.listener.connections:
            connection.hang_up()
        with pytest.raises(BrokenPipeError):
            late.send(ask(b"user"))
        await asyncio.sleep(0.05)
        assert early.recv(100) == b"8:OK value,8:OK quick,"
        assert early.recv(100) == b""
        assert late.recv(100) == b""
        assert not served.listener.connections


async def test_draining_ends_with_the_next_question(serve: Callable[..., Served]) -> None:
    """While draining, a connection's next query ends it, unanswered: Postfix then asks again over a new connection."""
    served = serve()
    await served.listener.start()
    reader, writer = await served.connect()
    with closing(writer):
        writer.write(ask(b"user"))
        await reader.readexactly(11)
        served.listener.drain()
        await asyncio.sleep(DRAIN_GRACE / 10)
        assert len(served.listener.connections) == 1
        writer.write(ask(b"user"))
        assert await reader.read() == b""


async def test_drain_waits_for_a_slow_reader(serve: Callable[..., Served]) -> None:
    """A client that is slow to take its replies gets all of them before a draining connection ends."""
    served = serve()
    await served.listener.start()
    reader, writer = await served.connect()
    with closing(writer):
        writer.write(ask(b"big"))
        await reader.readexactly(90_010)
        transport_of(writer).pause_reading()
        writer.write(ask(b"big") * 100)
        await asyncio.sleep(0.05)
        (connection,) = served.listener.connections
        assert connection.stalled
        served.listener.drain()
        await asyncio.sleep(0.01)
        transport_of(writer).resume_reading()
        assert len(await reader.read()) == 100 * 90_010


async def test_last_replies_that_nobody_takes(serve: Callable[..., Served]) -> None:
    """A client that asks no more and leaves a few replies unread, too few to count as stalled, is closed in the end."""
    served = serve(limits=LimitsSection(idle_timeout=Seconds(20.0), stall_timeout=Seconds(10.0)))
    await served.listener.start()
    reader, writer = await served.connect()
    with closing(writer):
        writer.write(ask(b"fast"))
        await reader.readexactly(11)
        transport_of(writer).pause_reading()
        (connection,) = served.listener.connections
        while not connection._transport.get_write_buffer_size():
            writer.write(ask(b"fast") * 20)
            await asyncio.sleep(0.001)
        assert not connection.stalled
        writer.write_eof()
        await asyncio.sleep(0.01)
        for now in (21.0, 31.0):
            assert served.listener.connections == {connection}
            served.clock.now = now
            served.listener.clients.sweep()
            await asyncio.sleep(0.01)
        assert not served.listener.connections


async def test_violation_behind_replies_that_wait(serve: Callable[..., Served]) -> None:
    """A violation behind replies that the client does not take yet counts once, and ends the
    connection when they are taken.
    """
    served = serve()
    await served.listener.start()
    reader, writer = await served.connect()
    with closing(writer):
        writer.write(ask(b"fast"))
        taken = len(await reader.readexactly(11))
        transport_of(writer).pause_reading()
        (connection,) = served.listener.connections
        asked = 0
        while connection._transport.get_write_buffer_size() < WRITE_AHEAD - 100:
            writer.write(ask(b"fast"))
            asked += 1
            await asyncio.sleep(0)
        writer.write(ask(b"fast") * 20 + b"no netstring")
        await asyncio.sleep(0.05)
        assert connection.stalled
        transport_of(writer).resume_reading()
        assert len(await reader.read()) == (asked + 20) * taken
    assert sum(served.listener.meter.violations.values()) == 1
