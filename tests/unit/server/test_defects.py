"""A defect of this program costs the lookup that meets it, and nobody waits for an answer in vain."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mailmapd.cache import TableCache
from mailmapd.config.address import UnixAddress
from mailmapd.config.schema import CacheSection, LimitsSection, ListenAddress
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.dicts.dict import Dict
from mailmapd.engine.maps.map import Map, MapTable
from mailmapd.engine.maps.service import MapService
from mailmapd.engine.meters import LookupMeter
from mailmapd.engine.origin import QueryOrigin
from mailmapd.engine.table import Table
from mailmapd.model import Answer, Found
from mailmapd.protocols import DictCodec, SocketmapCodec
from mailmapd.search import Search
from mailmapd.server.conversation import Conversation, MapConversation
from mailmapd.server.dict_conversation import DictConversation
from mailmapd.server.listener import Listener
from mailmapd.server.reply_cache import ReplyCache
from mailmapd.sockets.binding import bind_socket
from mailmapd.template.fold import fold
from mailmapd.template.mysql_table import MysqlTable
from support.clock import FakeClock
from support.dict_samples import SampleDatabase, sample_service
from support.memory_database import MemoryDatabase

MAP = b"6:m user,"
MAP_FOUND, MAP_FAILED = b"8:OK value,", b"38:TEMP mailmapd failed; its log says why,"
DICT = b"Lshared/userdb/bob@example.com\tbob@example.com\n"
DICT_FOUND = b'O{"uid": "5000", "home": "/srv/bob@example.com"}\n'
DICT_FAILED = b"Fmailmapd failed; its log says why\n"
HELLO = b"H3\t2\t0\t\tauth\n"

ERRORS = (ZeroDivisionError("defect"), MemoryError())

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[str], Awaitable[Client]]


def _map_conversation(clock: FakeClock) -> Conversation:
    database = MemoryDatabase("mail", {(b"user",): [(b"value",)]})
    definition = PostfixDefinition(MysqlTable.compile("t", b"SELECT '%s'"))
    table = Table(
        "t", QueryOrigin("t", definition, database, clock), TableCache(CacheSection()), clock
    )
    map_ = Map("m", [MapTable(table, definition, fold=fold)], Search.compile("exact"), clock)
    service = MapService("socketmap", clock)
    service.serve({"m": map_})
    return MapConversation(SocketmapCodec(), service, ReplyCache())


@pytest.fixture
async def connect(short_path: Path) -> AsyncIterator[Connect]:
    """Connect to a socketmap listener, or to a dict listener after its hello."""
    clock = FakeClock()
    kinds: dict[str, Callable[[], Conversation]] = {
        "socketmap": lambda: _map_conversation(clock),
        "dict": lambda: DictConversation(
            DictCodec(), sample_service(SampleDatabase()), lambda _: ReplyCache()
        ),
    }
    async with contextlib.AsyncExitStack() as stack:
        for name, converse in kinds.items():
            entry = ListenAddress(address=UnixAddress(str(short_path / name)))
            listener = Listener(
                name,
                entry,
                bind_socket(entry),
                converse=converse,
                limits=LimitsSection(),
                clock=clock,
            )
            await listener.start()
            stack.callback(listener.close)
            stack.callback(listener.stop_accepting)

        async def opened(name: str) -> Client:
            reader, writer = await asyncio.open_unix_connection(str(short_path / name))
            stack.callback(writer.close)
            if name == "dict":
                writer.write(HELLO)
            return reader, writer

        yield opened
        await stack.aclose()
        await asyncio.sleep(0.01)


def once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: BaseException) -> None:
    """Have a method raise at its next call, and work then."""
    right = getattr(owner, name)

    def broken(*_: Any, **__: Any) -> Any:
        monkeypatch.setattr(owner, name, right)
        raise error

    monkeypatch.setattr(owner, name, broken)


async def exchange(client: Client, question: bytes, reply: bytes) -> None:
    client[1].write(question)
    async with asyncio.timeout(5):
        assert await client[0].readexactly(len(reply)) == reply


@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (Map, "tell"),
        (Table, "ask"),
        (TableCache, "store"),
        (PostfixDefinition, "payload"),
        (LookupMeter, "count"),
    ],
)
async def test_map_lookup(
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    method: str,
) -> None:
    """A lookup that meets a defect is a temporary failure, said in the log; the next one on the
    same connection is answered.
    """
    for error in ERRORS:
        client = await connect("socketmap")
        once(monkeypatch, owner, method, error)
        await exchange(client, MAP, MAP_FAILED)
        assert "a defect of mailmapd" in caplog.text
        for _ in range(2):
            await exchange(client, MAP, MAP_FOUND)


@pytest.mark.parametrize(
    ("owner", "method"),
    [(Dict, "parse"), (Table, "ask"), (TableCache, "store"), (LookupMeter, "count")],
)
async def test_dict_lookup(
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    method: str,
) -> None:
    """The same over a dict."""
    for error in ERRORS:
        client = await connect("dict")
        once(monkeypatch, owner, method, error)
        await exchange(client, DICT, DICT_FAILED)
        assert "a defect of mailmapd" in caplog.text
        for _ in range(2):
            await exchange(client, DICT, DICT_FOUND)


async def test_reply_that_cannot_be_encoded(
    connect: Connect, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that cannot be encoded is a temporary failure, whether it comes at once or later;
    the listener is named.
    """
    right = SocketmapCodec.encode

    def broken(codec: SocketmapCodec, answer: Answer) -> bytes:
        if isinstance(answer, Found):
            raise ZeroDivisionError("defect")
        return right(codec, answer)

    monkeypatch.setattr(SocketmapCodec, "encode", broken)
    client = await connect("socketmap")
    await exchange(client, MAP, MAP_FAILED)  # from the database
    await exchange(client, MAP, MAP_FAILED)  # from memory
    monkeypatch.setattr(SocketmapCodec, "encode", right)
    await exchange(await connect("socketmap"), MAP, MAP_FOUND)
    assert "listener socketmap" in caplog.text


@pytest.mark.parametrize("method", ["reply_to", "whole_query", "next_reply"])
@pytest.mark.parametrize("name", ["socketmap", "dict"])
async def test_connection(
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    method: str,
) -> None:
    """A defect before a query is understood ends its connection at once, and the listener is named; others go on."""
    question, found = (MAP, MAP_FOUND) if name == "socketmap" else (DICT, DICT_FOUND)
    kind: Any = MapConversation if name == "socketmap" else DictConversation
    if method == "whole_query":
        kind = SocketmapCodec if name == "socketmap" else DictCodec
    client, other = await connect(name), await connect(name)
    await exchange(client, question, found)
    once(monkeypatch, kind, method, ZeroDivisionError("defect"))
    client[1].write(2 * question)
    async with asyncio.timeout(5):
        assert await client[0].read() == b""
    assert f"listener {name}" in caplog.text
    await exchange(other, question, found)
