from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from mailmapd.config.schema import LimitsSection
from mailmapd.sockets.peers import Peers
from mailmapd.web.http_server import BURST, REQUESTS, HttpServer
from mailmapd.web.stranger import HEAD_LIMIT
from support.polling import until

PLACES = 8
GET = b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n"

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Served:
    server: HttpServer
    connect: Callable[[], Awaitable[Client]]
    hold: asyncio.Event
    asked: list[str] = field(default_factory=list)


@pytest.fixture
async def served(short_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    """A server for strangers with a page that is ready, one that waits for `hold`, and /healthz.

    Its parameter is how long a body may be.
    """
    longest = getattr(request, "param", 0)
    path = str(short_path / "http")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(path)
    app = web.Application()
    server = HttpServer(
        app,
        bound,
        "http",
        lambda: LimitsSection(max_connections=PLACES),
        peers=Peers(()),
        strangers=True,
        longest_body=longest,
    )
    async with AsyncExitStack() as stack:

        async def connect() -> Client:
            reader, writer = await asyncio.open_unix_connection(path)
            stack.callback(writer.close)
            return reader, writer

        served = Served(server, connect, asyncio.Event())

        async def page(request: web.Request) -> web.Response:
            served.asked.append(request.path)
            if request.path == "/slow":
                await served.hold.wait()
            return web.Response(text="x" * 1_000_000 if request.path == "/big" else request.path)

        async def echo(request: web.Request) -> web.Response:
            return web.Response(body=await request.read())

        app.add_routes([web.get("/{name}", page), web.post("/{name}", echo)])
        await server.start()
        stack.push_async_callback(server.close)
        yield served
        served.hold.set()


async def reply(client: Client) -> bytes:
    """Return the next reply's status and body."""
    head = await client[0].readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    return head.split(b" ")[1] + b" " + await client[0].readexactly(length)


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read(1) == b""
    except ConnectionResetError:
        return True


async def test_requests_in_pieces_and_in_rows(served: Served) -> None:
    """Requests that come byte by byte, or many at once, are answered in their order."""
    client = await served.connect()
    for byte in GET % b"bytes":
        client[1].write(bytes([byte]))
        await asyncio.sleep(0)
    assert await reply(client) == b"200 /bytes"
    client[1].write(b"".join(GET % b"%d" % number for number in range(5)))
    assert [await reply(client) for _ in range(5)] == [b"200 /%d" % number for number in range(5)]


async def test_pace(served: Served) -> None:
    """Requests in a row are answered at the pace of REQUESTS; another client's first one goes before them.

    Health has a pace of its own.
    """
    greedy, other, health = [await served.connect() for _ in range(3)]
    loop = asyncio.get_running_loop()
    begun = loop.time()
    greedy[1].write(b"".join(GET % b"%d" % number for number in range(200)))
    for _ in range(BURST + 4):
        await reply(greedy)
    other[1].write(GET % b"other")
    health[1].write(GET % b"healthz")
    assert await reply(other) == b"200 /other"
    assert await reply(health) == b"200 /healthz"
    assert len(served.asked) <= BURST + 8
    assert loop.time() - begun >= 3 / REQUESTS


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 12000000\r\nContent-Encoding: gzip",
        b"Transfer-Encoding: chunked",
        b"content-length : 5",
        b"Expect: 100-continue",
        b"Expect: nothing in particular",
    ],
)
async def test_bodies_are_refused_unread(
    served: Served, caplog: pytest.LogCaptureFixture, head: bytes
) -> None:
    """A request that announces a body is refused by its head, and nothing that follows is read or logged."""
    client = await served.connect()
    client[1].write(b"GET /page HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n" % head)
    client[1].write(b"\x1f\x8b" * 1_000_000)
    assert (await reply(client)).startswith(b"413 ")
    assert served.asked == []
    assert not caplog.records


async def test_no_body(served: Served) -> None:
    """A length of nothing is no body."""
    client = await served.connect()
    client[1].write(b"GET /page HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
    assert await reply(client) == b"200 /page"


POST = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"


@pytest.mark.parametrize("served", [1000], indirect=True)
async def test_bodies_where_some_are_expected(served: Served) -> None:
    """A body that is short enough may come in pieces, and requests behind it are answered in their order."""
    client = await served.connect()
    for byte in POST % (3, b"abc"):
        client[1].write(bytes([byte]))
        await asyncio.sleep(0)
    assert await reply(client) == b"200 abc"
    client[1].write(POST % (1000, b"x" * 1000) + GET % b"page" + POST % (1, b"y"))
    assert await reply(client) == b"200 " + b"x" * 1000
    assert await reply(client) == b"200 /page"
    assert await reply(client) == b"200 y"


@pytest.mark.parametrize("served", [1000], indirect=True)
@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 1001",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Content-Length: 99999999999",
        b"Transfer-Encoding: chunked",
    ],
)
async def test_other_bodies_are_refused_unread(served: Served, head: bytes) -> None:
    """A body that is too long, or of whose length nothing certain is said, is refused before it is read."""
    client = await served.connect()
    client[1].write(b"POST /echo HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n")
    assert (await reply(client)).startswith(b"413 ")
    assert await ended(client[0])


@pytest.mark.parametrize("served", [1000], indirect=True)
async def test_pace_of_bodies(served: Served) -> None:
    """Requests with bodies keep the same pace."""
    client = await served.connect()
    begun = asyncio.get_running_loop().time()
    client[1].write(POST % (1, b"y") * (BURST + 5))
    for _ in range(BURST + 5):
        assert await reply(client) == b"200 y"
    assert asyncio.get_running_loop().time() - begun >= 3 / REQUESTS


async def test_endless_head(served: Served) -> None:
    """A head without an end is refused when it is longer than its limit."""
    client = await served.connect()
    client[1].write(b"GET /page HTTP/1.1\r\nX: " + b"x" * HEAD_LIMIT)
    assert (await reply(client)).startswith(b"431 ")
    assert await ended(client[0])


async def test_half_closed(served: Served) -> None:
    """A client that says it will ask no more gets its answer, and the end."""
    client = await served.connect()
    client[1].write(GET % b"page")
    client[1].write_eof()
    assert await reply(client) == b"200 /page"
    assert await ended(client[0])


async def test_idle_ones_make_room(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Any number of idle connections keeps nobody out: those that have been idle longest make room, said once."""
    idle = [await served.connect() for _ in range(3 * PLACES)]
    client = await served.connect()
    client[1].write(GET % b"healthz")
    assert await reply(client) == b"200 /healthz"
    assert await ended(idle[0][0])
    assert len(served.server.clients.all) <= PLACES
    assert [record.message for record in caplog.records] == [
        "listener http: 4 connections, the limit; idle ones make room for more"
    ]


async def test_one_peer_has_half(served: Served) -> None:
    """One user's connections take half of the places at most."""
    for _ in range(PLACES):
        await served.connect()
    await until(lambda: len(served.server.clients.all) == PLACES // 2)
    await asyncio.sleep(0.05)
    assert len(served.server.clients.all) == PLACES // 2


async def test_reserve_for_health(served: Served) -> None:
    """While every client waits for us, further ones may ask about health, and nothing else; a few at a time."""
    for _ in range(PLACES // 2):
        (await served.connect())[1].write(GET % b"slow")
    await until(lambda: len(served.asked) == PLACES // 2)
    client, other = await served.connect(), await served.connect()
    client[1].write(GET % b"healthz")
    assert await reply(client) == b"200 /healthz"
    other[1].write(GET % b"page")
    assert (await reply(other)).startswith(b"503 ")


async def test_unread_replies_make_room(served: Served) -> None:
    """A client that has been answered and does not read makes room like an idle one."""
    for _ in range(PLACES // 2):
        reader, writer = await served.connect()
        writer.write(GET % b"big")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
    await until(lambda: len(served.asked) == PLACES // 2)
    client = await served.connect()
    client[1].write(GET % b"page")
    assert await reply(client) == b"200 /page"


async def test_end(served: Served) -> None:
    """The end waits for no idle client, and for none that waits for its turn."""
    await served.connect()
    busy = await served.connect()
    busy[1].write(b"".join(GET % b"%d" % number for number in range(1000)))
    await reply(busy)
    async with asyncio.timeout(5):
        await served.server.close()


@pytest.mark.parametrize(
    "stuck",
    [
        (b"\r\n\r\n",),
        (b"\n\n",),
        # Whoever changes the protocol is not read any more by aiohttp
        (
            b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            GET % b"page",
        ),
    ],
    ids=["empty lines", "short ones", "another protocol"],
)
async def test_what_is_no_request_makes_room(
    served: Served, stuck: tuple[bytes, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Clients who send what no request is made of keep nobody out: they make room like idle ones."""
    for _ in range(2 * PLACES):
        reader, writer = await served.connect()
        for number, text in enumerate(stuck):
            if number:
                await reader.readuntil(b"\r\n\r\n")
            writer.write(text)
    await asyncio.sleep(0.1)
    for path in (b"page", b"healthz"):
        client = await served.connect()
        client[1].write(GET % path)
        async with asyncio.timeout(5):
            assert await reply(client) == b"200 /%b" % path
    assert "defect" not in caplog.text


async def test_an_empty_line_before_a_request(served: Served) -> None:
    """One empty line before a request is passed over, as HTTP has it."""
    client = await served.connect()
    client[1].write(b"\r\n" + GET % b"page")
    assert await reply(client) == b"200 /page"
