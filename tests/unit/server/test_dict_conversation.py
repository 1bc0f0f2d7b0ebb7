from __future__ import annotations

import asyncio
from functools import partial

import pytest

from mailmapd.engine.invalidation import Invalidation
from mailmapd.errors import DatabaseUnavailable
from mailmapd.protocols import DictCodec
from mailmapd.server.conversation import LATER
from mailmapd.server.dict_conversation import DictConversation
from mailmapd.server.reply_cache import ReplyCache, ReplyCaches
from support.dict_samples import SampleDatabase, sample_service

HELLO = b"H3\t2\t0\t\tauth\n"
ALICE = b"Lshared/userdb/alice@example.com\talice@example.com\n"
FOUND = b'O{"uid": "5000", "home": "/srv/alice@example.com"}\n'


def too_late(reply: bytes) -> None:
    pytest.fail(f"delivered later: {reply!r}")


async def talk(data: bytes, database: SampleDatabase | None = None) -> bytes:
    """Return every reply to the bytes, in order."""
    conversation = DictConversation(
        DictCodec(), sample_service(database or SampleDatabase()), lambda _: ReplyCache()
    )
    conversation.receive_data(data)
    replies = []
    delivered: asyncio.Queue[bytes] = asyncio.Queue()
    while (reply := conversation.next_reply(delivered.put_nowait)) is not None:
        if reply is LATER:
            reply = await delivered.get()
        replies += [reply] if isinstance(reply, bytes) else [chunk async for chunk in reply]
    return b"".join(replies)


async def test_lookups_and_listing_in_order() -> None:
    """Lookups, a listing and a commit on one connection are answered in order."""
    asked = (
        HELLO
        + ALICE
        + b"Lshared/userdb/none\tnone\n"
        + b"I0\t0\tshared/userdb/\tb*\n"
        + b"B1\n"
        + b"S1\tpriv/x\ty\n"
        + b"C1\n"
        + ALICE
    )
    told = (
        FOUND
        + b"N\n"
        + b"Oshared/userdb/bob@example.com\t1\n\n"
        + b"F1\tthis dict is read only: mailmapd does not write\n"
        + FOUND
    )
    assert await talk(asked) == told


async def test_whole_lookups_are_remembered_by_dict() -> None:
    """A lookup that comes whole, after the hello, is answered, and remembered for its dict when it comes again.

    One that leaves its user to the hello is not.
    """
    service = sample_service(SampleDatabase())
    caches = ReplyCaches()
    auth, other, bare = (
        DictConversation(DictCodec(), service, partial(caches.of, "dict")) for _ in range(3)
    )
    assert auth.reply_to(ALICE, too_late) is None, "answered before the hello"
    for conversation, hello in (
        (auth, HELLO),
        (other, HELLO),
        (bare, HELLO.replace(b"auth", b"bare")),
    ):
        assert not conversation.between_queries
        conversation.receive_data(hello)
        assert conversation.next_reply(too_late) is None
        assert conversation.between_queries
    later: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    assert auth.reply_to(ALICE, later.set_result) is LATER
    assert await later == auth.reply_to(ALICE, too_late) == FOUND
    assert auth.recall(ALICE, 0.0) is None
    assert auth.reply_to(ALICE, too_late) == FOUND
    for conversation in (auth, other):
        found = conversation.recall(ALICE, 0.0)
        assert found is not None
        assert found[0] == FOUND
    assert bare.recall(ALICE, 0.0) is None
    assert bare.reply_to(ALICE, too_late) == b"Fdict bare has no userdb\n"
    unnamed = b"Lshared/userdb/alice@example.com\n"
    assert auth.reply_to(unnamed, too_late) is None
    auth.receive_data(unnamed)
    assert not auth.between_queries
    assert isinstance(auth.next_reply(lambda _: None), bytes)
    assert auth.recall(unnamed, 0.0) is None


async def test_a_dict_that_a_reload_brings() -> None:
    """Replies of a dict that was not there at the hello are remembered for it alone, until what they say is touched."""
    service, caches = sample_service(SampleDatabase()), ReplyCaches()
    dicts = {name: served.asked for name, served in service._served.items()}
    service.serve({})
    early, other = (
        DictConversation(DictCodec(), service, partial(caches.of, "dict")) for _ in range(2)
    )
    for conversation, hello in ((early, HELLO), (other, HELLO.replace(b"auth", b"nothere"))):
        conversation.receive_data(hello)
        assert conversation.next_reply(too_late) is None
        reply = conversation.reply_to(ALICE, too_late)
        assert isinstance(reply, bytes)
        assert reply.startswith(b"F")
    service.serve(dicts)
    later: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    assert early.reply_to(ALICE, later.set_result) is LATER
    assert await later == FOUND
    for _ in range(2):
        assert early.reply_to(ALICE, too_late) == FOUND
    assert early.recall(ALICE, 0.0) is not None
    assert other.recall(ALICE, 0.0) is None
    caches.forget(Invalidation("auth.userdb", frozenset({b"alice@example.com"})))
    assert early.recall(ALICE, 0.0) is None


async def test_listing_without_values_and_empty_listing() -> None:
    """The no-value flag leaves values out, and no user is just the empty line."""
    assert (
        await talk(HELLO + b"I8\t1\tshared/userdb/\t\n")
        == b"Oshared/userdb/alice@example.com\t\n\n"
    )
    assert await talk(HELLO + b"I0\t0\tshared/userdb/\tx*\n") == b"\n"


async def test_failures() -> None:
    """A database that is away is an F for lookups and listings, and so is a key or prefix outside the namespaces."""
    database = SampleDatabase()
    database.failure = DatabaseUnavailable("database mail: gone")
    assert (
        await talk(HELLO + ALICE + b"I0\t0\tshared/userdb/\t\n", database)
        == b"Fdatabase mail: gone\n" * 2
    )
    assert (await talk(HELLO + b"Lpriv/x\t\n")).startswith(b"Fdict auth has the keys")
    assert (await talk(HELLO + b"I0\t0\tpriv/\t\n")).startswith(
        b"Fdict auth lists shared/userdb/ only"
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"nosuch", b"dict nosuch"),
        (b"bad\x1b[2J", b"such dict"),
        (b"x" * 100, b"such dict"),
    ],
)
async def test_unknown_dict(name: bytes, shown: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Every question to a dict that is not configured is a failure with the reason, and the log says it, too."""
    asked = ALICE + b"I0\t0\tshared/userdb/\t\n" + b"B1\nC1\n"
    reason = b"mailmapd has no %b; its dicts are: auth" % shown
    replies = (await talk(b"H3\t2\t0\t\t%b\n" % name + asked)).splitlines()
    assert [reply[:1] for reply in replies] == [b"F", b"F", b"F"]
    assert all(reply.startswith(b"F" + reason) for reply in replies[:2])
    assert reason.decode() in caplog.text
