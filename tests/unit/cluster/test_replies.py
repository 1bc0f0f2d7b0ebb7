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
from mailmapd.cluster.replies import MOST_ELEMENTS, MOST_INSIDE, MOST_KEPT, Replies

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
    assert [entry[0] for entry in first] == [b"%d-0" % number for number in range(50)]
    assert [entry[1] for entry in first] == [value] * 31 + [OVERLONG] * 19
    assert second == [value]


async def test_array_without_end() -> None:
    """Of an array as many elements are kept as one of ours has; what follows is read."""
    [found, after] = await read(encoded([1] * 10_000), encoded(b"after"), replies=2)
    assert found == [1] * MOST_ELEMENTS
    assert after == b"after"


async def test_arrays_within_arrays() -> None:
    """However arrays stand within each other, no more elements are kept of a reply than one of ours has."""
    reply = encoded([[[b"x"] * 30] * 30] * 30)
    [found, after] = await read(reply, encoded([[[b"1-0", [b"m", b"x"]]]]), replies=2)
    kept = sum(1 + len(inside) + sum(map(len, inside)) for inside in found)
    assert MOST_KEPT - 30 <= kept <= MOST_KEPT
    assert after == [[[b"1-0", [b"m", b"x"]]]]


async def test_many_fields() -> None:
    """Of a message with very many fields those of ours are kept, and the messages around it, with their ids."""
    fields = [b"m", b"said", *[b"x"] * 2000]
    reply = [[b"stream", [[b"%d-0" % number, fields] for number in range(5)]]]
    [found] = await read(encoded(reply))
    assert [entry[0] for entry in found[0][1]] == [b"%d-0" % number for number in range(5)]
    assert all(entry[1][:2] == [b"m", b"said"] for entry in found[0][1])
    assert {len(entry[1]) for entry in found[0][1]} == {MOST_INSIDE}


async def test_long_words() -> None:
    """Words and errors count as values do: nothing is kept of those that come after the first megabytes."""
    word = b"x" * 60_000
    [words] = await read(b"*1000\r\n" + b"+%b\r\n" % word * 1000)
    assert sum(map(len, words)) < 9 * 1024 * 1024
    assert (words[0], words[-1]) == (word, OVERLONG)
    [errors] = await read(b"*1000\r\n" + b"-ERR %b\r\n" % word * 1000)
    assert max(len(str(error)) for error in errors) <= 500


@pytest.mark.parametrize("element", [b":1\r\n", b"$1\r\nx\r\n", b"*0\r\n", b"+\r\n", b"$-1\r\n"])
async def test_lookups_have_their_turn(element: bytes) -> None:
    """Elements that have all come at once are read a few at a time."""
    reading = asyncio.create_task(read(b"*10000\r\n" + element * 10_000))
    turns = 0
    while not reading.done():
        turns += 1
        await asyncio.sleep(0)
    assert len((await reading)[0]) == MOST_ELEMENTS
    assert turns > 100


@pytest.mark.parametrize(
    "text",
    [
        b"hello\r\n",
        b"$x\r\n",
        b"\r\n",
        b"*1\r\n" * 5000,
        b"*1\r\n" * 20,
        b":1:\r\n",
        b"$" + b"1" * 99_999,
    ],
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
