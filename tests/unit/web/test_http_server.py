from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from mailmapd.config.schema import LimitsSection, Seconds
from mailmapd.sockets.peers import Peers
from mailmapd.web.http_server import HttpServer
from support.clock import FakeClock
from support.polling import until
from support.strangers import connect_as_nobody, heard

LIMITS = LimitsSection(max_connections=3, stall_timeout=Seconds(30.0), idle_timeout=Seconds(600.0))
GET = b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n"
BIG = b"x" * 10_000_000

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Served:
    server: HttpServer
    clock: FakeClock
    hold: asyncio.Event
    connect: Callable[[], Awaitable[Client]]

    def pass_time(self, seconds: float) -> None:
        """Let the server look for slow clients after so many seconds."""
        self.clock.now += seconds
        self.server.clients.sweep()


@pytest.fixture
async def served(short_path: Path) -> AsyncIterator[Served]:
    """A server with a small page, a big one, one that waits for `hold`, and one that returns what it was sent."""
    path, hold, clock = str(short_path / "http"), asyncio.Event(), FakeClock()

    async def small(_: web.Request) -> web.Response:
        return web.Response(text="small")

    async def big(_: web.Request) -> web.Response:
        return web.Response(body=BIG)

    async def slow(_: web.Request) -> web.Response:
        await hold.wait()
        return web.Response(text="slow")

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    app = web.Application(client_max_size=100)
    app.add_routes(
        [
            web.get("/small", small),
            web.get("/big", big),
            web.get("/slow", slow),
            web.post("/echo", echo),
        ]
    )
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(path)
    server = HttpServer(app, bound, "http", lambda: LIMITS, peers=Peers(()), clock=clock)
    await server.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.close)

        async def connect() -> Client:
            number = len(server.clients.all)
            reader, writer = await asyncio.open_unix_connection(path)
            stack.callback(writer.close)
            await until(lambda: len(server.clients.all) in (number + 1, LIMITS.max_connections))
            return reader, writer

        yield Served(server, clock, hold, connect)
        hold.set()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Return whether the server has closed the connection without another byte."""
    try:
        return await reader.read(1) == b""
    except ConnectionResetError:
        return True


async def head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def ask(client: Client, page: bytes) -> bytes:
    client[1].write(GET % page)
    return await head(client[0]) + await client[0].readexactly(5)


async def test_no_more_clients_than_allowed(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection beyond limits.max_connections is closed, said once, and its place is free
    again when another has left.
    """
    clients = [await served.connect() for _ in range(LIMITS.max_connections)]
    for client in clients:
        assert (await ask(client, b"small")).endswith(b"small")
    for _ in range(3):
        reader, _ = await served.connect()
        assert await ended(reader)
    assert [record.message for record in caplog.records] == [
        "listener http: 3 connections, the limit; more are refused"
    ]
    clients[0][1].close()
    await until(lambda: len(served.server.clients.all) < LIMITS.max_connections)
    assert (await ask(await served.connect(), b"small")).endswith(b"small")


HALF_A_BODY = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nabc"


@pytest.mark.parametrize("part", [b"G", b"GET /small HTTP/1.1\r\nHost: loc", HALF_A_BODY])
async def test_unfinished_request(served: Served, part: bytes) -> None:
    """A client that stops in the middle of a request is cut off after limits.stall_timeout, however
    often it sends a byte.
    """
    reader, writer = await served.connect()
    writer.write(part)
    (client,) = served.server.clients.all
    await until(lambda: client._asked_since is not None)
    served.pass_time(20.0)
    writer.write(b"E")
    await asyncio.sleep(0.01)
    assert served.server.clients.all
    served.pass_time(11.0)
    assert await ended(reader)


async def test_unfinished_request_behind_another(served: Served) -> None:
    """A request that begins while the one before is being answered must be finished in time, too."""
    reader, writer = await served.connect()
    writer.write(GET % b"slow")
    (client,) = served.server.clients.all
    await until(lambda: client._answering)
    writer.write(b"GET /sm")
    await until(lambda: client._asks_more)
    served.pass_time(1000.0)
    assert served.server.clients.all, "the client waits for us"
    served.hold.set()
    await head(reader)
    await reader.readexactly(4)
    served.pass_time(31.0)
    assert await ended(reader)


async def test_idle_client(served: Served) -> None:
    """Between requests a client may be silent for limits.idle_timeout, and no longer.

    One that never asked may neither.
    """
    silent, asker = await served.connect(), await served.connect()
    for _ in range(2):
        await ask(asker, b"small")
        served.pass_time(500.0)
    assert await ended(silent[0])
    assert (await ask(asker, b"small")).endswith(b"small")
    served.pass_time(601.0)
    assert await ended(asker[0])


async def test_unread_reply(served: Served) -> None:
    """A client that does not take its reply is cut off after limits.stall_timeout.

    One that takes some of it now and then is not.
    """
    reader, writer = await served.connect()
    writer.write(GET % b"big")
    await head(reader)
    for _ in range(5):
        served.pass_time(20.0)
        await reader.readexactly(1_000_000)
        await asyncio.sleep(0.01)
    served.pass_time(0.0)
    served.pass_time(31.0)
    await until(lambda: not served.server.clients.all)


async def test_too_large_body_leaves_nothing_behind(served: Served) -> None:
    """A body that is too large is refused, and the connection is not counted as one with an unfinished request."""
    reader, writer = await served.connect()
    writer.write(
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 101\r\n\r\n" + b"x" * 101
    )
    assert b" 413 " in await head(reader)
    for client in served.server.clients.all:
        assert client._asked_since is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b" 400 "),
        (b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde", b" 415 "),
        (b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n", b" 415 "),
    ],
)
async def test_broken_body(
    served: Served, caplog: pytest.LogCaptureFixture, body: bytes, status: bytes
) -> None:
    """A body that is not what its head says, or compressed, is the client's fault: a status, and no line of the log."""
    reader, writer = await served.connect()
    writer.write(b"POST /echo HTTP/1.1\r\nHost: localhost\r\n" + body)
    assert status in await head(reader)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.root
@pytest.mark.parametrize("strangers", [False, True])
async def test_who_is_no_peer_takes_no_place(
    short_path: Path, caplog: pytest.LogCaptureFixture, strangers: bool
) -> None:
    """An account that is none of the peers is sent away before it has a place, however often it comes."""
    path = str(short_path / "peers")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(path)
    app = web.Application()
    server = HttpServer(
        app, bound, "lookup_http", lambda: LIMITS, peers=Peers(("daemon",)), strangers=strangers
    )
    await server.start()
    unwelcome = connect_as_nobody(short_path / "peers", 20)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(GET % b"")
    assert b" 404 " in await head(reader)
    assert len(server.clients.all) == 1
    assert {heard(client) for client in unwelcome} == {b""}
    assert len([line for line in caplog.messages if "not one of its peers" in line]) == 20
    writer.close()
    await server.close()


async def test_sweeps_by_itself(served: Served) -> None:
    """The server looks for slow clients again and again, as long as it is open."""
    clients = served.server.clients
    first = clients._timer
    assert first is not None
    clients._sweep_again()
    assert clients._timer not in (None, first)
    await served.server.close()
    assert clients._timer is None


async def test_end_with_slow_clients(served: Served) -> None:
    """Clients with half a request hold the end no longer than those with none."""
    for part in (b"", b"GET /sm", HALF_A_BODY):
        _, writer = await served.connect()
        writer.write(part)
    await until(lambda: len(served.server.clients.all) == 3)
    await served.server.close()
    assert not served.server.clients.all
