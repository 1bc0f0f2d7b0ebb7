"""Lookups leave nothing behind that only the garbage collector could free: it would run all the time."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator

import pytest

from mailmapd.cache import TableCache
from mailmapd.config.schema import CacheSection
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.maps.map import Map, MapTable
from mailmapd.engine.maps.service import MapService
from mailmapd.engine.origin import QueryOrigin
from mailmapd.engine.table import Table
from mailmapd.protocols import DictCodec, SocketmapCodec
from mailmapd.search import Search
from mailmapd.server.conversation import LATER, Conversation, MapConversation
from mailmapd.server.dict_conversation import DictConversation
from mailmapd.server.reply_cache import ReplyCache
from mailmapd.template.fold import fold
from mailmapd.template.mysql_table import MysqlTable
from support.clock import FakeClock
from support.dict_samples import SampleDatabase, sample_service
from support.memory_database import MemoryDatabase

LOOKUPS = 200


def _socketmap() -> tuple[Conversation, Callable[[int], bytes]]:
    """A map of two tables, so that a search goes on after its first answer from the database."""
    clock = FakeClock()
    database = MemoryDatabase(
        "mail", lambda statement, _: [(b"x",)] if statement.table == "b" else []
    )
    tables = []
    for name in ("a", "b"):
        definition = PostfixDefinition(MysqlTable.compile(name, b"SELECT '%s'"))
        origin = QueryOrigin(name, definition, database, clock)
        table = Table(name, origin, TableCache(CacheSection()), clock)
        tables.append(MapTable(table, definition, fold=fold))
    service = MapService("socketmap", clock)
    service.serve({"m": Map("m", tables, Search.compile("address"), clock)})
    conversation = MapConversation(SocketmapCodec(), service, ReplyCache())
    return conversation, lambda number: b"15:m u%04d@example," % number


def _dict() -> tuple[Conversation, Callable[[int], bytes]]:
    conversation = DictConversation(
        DictCodec(), sample_service(SampleDatabase()), lambda _: ReplyCache()
    )
    conversation.receive_data(b"H3\t2\t0\t\tauth\n")
    conversation.next_reply(lambda _: None)
    return conversation, lambda number: b"Lshared/userdb/u%04d@example.com\tx\n" % number


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Keep the garbage collector from running by itself."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("make", [_socketmap, _dict])
async def test_no_garbage(make: Callable[[], tuple[Conversation, Callable[[int], bytes]]]) -> None:
    """Lookups that a database answers free all that they needed, and so do those from memory."""
    conversation, request = make()

    async def ask(numbers: range) -> list[bytes]:
        replies: list[bytes] = []
        told = asyncio.Event()

        def deliver(reply: bytes) -> None:
            replies.append(reply)
            told.set()

        for number in numbers:
            reply = conversation.reply_to(request(number), deliver)
            if isinstance(reply, bytes):
                replies.append(reply)
            else:
                assert reply is LATER
                await told.wait()
                told.clear()
        return replies

    await ask(range(LOOKUPS, LOOKUPS + 3))  # what is made once
    gc.collect()
    first = await ask(range(LOOKUPS))
    assert gc.collect() == 0
    assert len(first) == LOOKUPS
    assert await ask(range(LOOKUPS)) == first
    assert gc.collect() == 0
