"""Any bytes from the server between hosts: a reply, the same for any cut, or an error of the library; and a message."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace

from redis.exceptions import RedisError

from mailmapd.changes.touched import Touched
from mailmapd.cluster.members import decode_member
from mailmapd.cluster.message import FIELD, Codec, Hears, Message, NotUnderstood
from mailmapd.cluster.replies import Replies

SAID = Codec().encode(
    Message(
        "mx1",
        "run",
        "17-0",
        Touched({"aa": {b"a@example.com"}}, {"bb": {(("d", b"\xff"),)}}, {"cc"}),
        {"user": "a@example.com"},
        {"mail": Hears(1, 0.5, frozenset({"s"}), frozenset({"aa"}))},
    )
)[FIELD]
MEMBER = b'{"run": "r", "version": "1", "at": 1.0, "last_id": "1-0", "added": 1, "history": "h", "lag": 0.1, '
MEMBER += b'"ratio": null, "config": "c", "follows": ["mail"], "watched": 1, "left": false}'
SEEDS = (
    SAID,
    MEMBER,
    b"*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nm\r\n$%d\r\n%b\r\n" % (len(SAID), SAID),
    b"+OK\r\n",
    b"-ERR no\r\n",
    b"-NOAUTH no\r\n",
    b":7\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"$300000\r\n" + b"x" * 300_000 + b"\r\n",
    b"*2\r\n*3\r\n+a\r\n:1\r\n*2\r\n$1\r\nx\r\n-ERR no\r\n*0\r\n",
    b"*200\r\n" + b":1\r\n" * 200,
    b"*1\r\n" * 2000 + b":1\r\n",
)
TOKENS = (b"*", b"$", b":", b"+", b"-", b"\r\n", b"-1", b"[", b"{", b'"v": 1', b"\\udc80", b"1-0")


def outcome(data: bytes, size: int) -> object:
    async def read() -> object:
        stream = asyncio.StreamReader()
        parser = Replies(65536)
        parser.on_connect(SimpleNamespace(_reader=stream, encoder=None))
        reading = asyncio.create_task(parser.read_response())
        for at in range(0, len(data), size):
            stream.feed_data(data[at : at + size])
            await asyncio.sleep(0)
        stream.feed_eof()
        try:
            return repr(await reading)
        except RedisError as error:
            return type(error)

    return asyncio.run(read())


def check(data: bytes) -> None:
    assert outcome(data, max(1, len(data))) == outcome(data, 1 + len(data) // 7)
    with suppress(NotUnderstood):
        Codec().decode({FIELD: data})
    decode_member(data)
