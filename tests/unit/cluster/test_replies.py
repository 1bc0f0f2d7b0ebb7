"""Replies of the server, of which no more is kept than there can be."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as ConnectionFailed
from redis.exceptions import InvalidResponse, ResponseError

from mailmapd.cluster.message import MOST_BYTES, OVERLONG
from mailmapd.cluster.replies import MOST_ELEMENTS, Replies

VALUES = st.recursive(
    st.one_of(st.none(), st.integers(-5, 10**9), st.binary(max_size=99)),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=30,
)


def encoded(value: Any) -> bytes:
    """Return a reply as a server sends it."""
    match value:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % value
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(value), value)
        case _:
            return b"*%d\r\n%b" % (len(value), b"".join(map(encoded, value)))


async def read(*pieces: bytes, replies: int = 1) -> list[Any]:
    """Return what is read of a connection that closes after these pieces."""
    stream = asyncio.StreamReader()
    parser = Replies(65536)
    parser.on_connect(SimpleNamespace(_reader=stream, encoder=None))
    reading = asyncio.create_task(_all_of(parser, replies))
    for piece in pieces:
        stream.feed_data(piece)
        await asyncio.sleep(0)
    stream.feed_eof()
    return await reading


async def _all_of(parser: Replies, replies: int) -> list[Any]:
    return [await parser.read_response() for _ in range(replies)]


@given(st.lists(VALUES, min_size=1, max_size=4), st.integers(1, 50))
def test_any_reply_in_any_pieces(values: list[Any], size: int) -> None:
    """Replies are what was sent, however they come."""
    text = b"".join(map(encoded, values))
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert asyncio.run(read(*pieces, replies=len(values))) == values


async def test_words_and_errors() -> None:
    """A word is itself; an error is a value, because a transaction has one in the middle of its reply."""
    [done, failed, after] = await read(
        b"+OK\r\n*2\r\n-ERR no\r\n:1\r\n-WRONGTYPE no\r\n", replies=3
    )
    assert done == b"OK"
    assert isinstance(failed[0], ResponseError)
    assert failed[1] == 1
    assert isinstance(after, ResponseError)


async def test_overlong_value() -> None:
    """A value of more than a message may have is passed over, and what follows is read."""
    long = b"x" * (MOST_BYTES + 1)
    assert await read(encoded([b"1-0", [b"m", long], b"after"])) == [
        [b"1-0", [b"m", OVERLONG], b"after"]
    ]


async def test_overlong_reply() -> None:
    """Of a reply eight megabytes are kept, and what is short; the next one begins anew."""
    value = b"x" * MOST_BYTES
    reply = encoded([[b"%d-0" % number, value] for number in range(50)])
    first, second = await read(reply, encoded([value]), replies=2)
    assert [one[0] for one in first] == [b"%d-0" % number for number in range(50)]
    assert [one[1] for one in first] == [value] * 31 + [OVERLONG] * 19
    assert second == [value]


async def test_array_without_end() -> None:
    """Of an array as many elements are kept as one of ours has; what follows is read."""
    [found, after] = await read(encoded([1] * 10_000), encoded(b"after"), replies=2)
    assert found == [1] * MOST_ELEMENTS
    assert after == b"after"


@pytest.mark.parametrize(
    "text", [b"hello\r\n", b"$x\r\n", b"\r\n", b"*1\r\n" * 5000, b":1:\r\n", b"$" + b"1" * 99_999]
)
async def test_no_reply(text: bytes) -> None:
    """What is no reply is an error of the library, which ends the connection."""
    with pytest.raises(InvalidResponse):
        await read(text)


@pytest.mark.parametrize("text", [b"", b"+OK", b"$5\r\nab", b"$999999\r\nab", b"*2\r\n:1\r\n"])
async def test_cut_short(text: bytes) -> None:
    """A connection that ends in the middle is one that was lost."""
    with pytest.raises(ConnectionFailed):
        await read(text)


async def test_lost_by_the_server() -> None:
    """An error after which the server closes the connection is raised at once."""
    with pytest.raises(ConnectionFailed):
        await read(b"-ERR max number of clients reached\r\n")
