from __future__ import annotations

import pytest

from mailmapd.errors import ProtocolError
from mailmapd.model import NOT_FOUND, Answer, Found, MapQuery, PermFail, TempFail
from mailmapd.protocols import MapCodec, TcpTableCodec, lines
from mailmapd.protocols.codec import KEY_LIMIT
from mailmapd.protocols.tcp_table import (
    BAD_ENCODING,
    KEY_TOO_LONG,
    REASONS,
    REPLY_LIMIT,
    REQUEST_LIMIT,
    UNKNOWN_COMMAND,
)
from support.codecs import Outcome, byte_by_byte, feed

EVERY_BYTE = bytes(range(256))


@pytest.mark.parametrize(
    ("request_bytes", "key"),
    [
        (b"get user@example.com\n", b"user@example.com"),
        (b"get %20x%25\n", b" x%"),
        (b"get %c3%A9\n", "é".encode()),
        (b"get %00\n", b"\0"),
        (b"get \n", b""),
        (b"get " + b"k" * KEY_LIMIT + b"\n", b"k" * KEY_LIMIT),
        (b"get " + b"%20" * KEY_LIMIT + b"\n", b" " * KEY_LIMIT),
        (b"get " + b"".join(b"%%%02X" % byte for byte in EVERY_BYTE) + b"\n", EVERY_BYTE),
    ],
)
def test_understands_postfix(request_bytes: bytes, key: bytes) -> None:
    """A request becomes a query without a map name for the decoded key, whole and byte by byte."""
    for pieces in ([request_bytes], byte_by_byte(request_bytes)):
        assert feed(TcpTableCodec(), pieces) == Outcome([MapQuery(b"", key)], None)
    assert TcpTableCodec().whole_query(request_bytes) in {MapQuery(b"", key), None}


def test_update_is_a_query_for_nothing() -> None:
    """An update takes its turn as a query for the empty key, which ends in 500."""
    outcome = feed(TcpTableCodec(), [b"get a\nput key value\nget b\n"])
    assert outcome == Outcome([MapQuery(b"", b"a"), MapQuery(b"", b""), MapQuery(b"", b"b")], None)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\n", UNKNOWN_COMMAND),
        (b"get\n", UNKNOWN_COMMAND),
        (b"GET key\n", UNKNOWN_COMMAND),
        (b"24:mailbox user@example.com,\n", UNKNOWN_COMMAND),
        (b"get a b\n", BAD_ENCODING),
        (b"get a\r\n", BAD_ENCODING),
        (b"get \xc3\xa9\n", BAD_ENCODING),
        (b"get %\n", BAD_ENCODING),
        (b"get %4\n", BAD_ENCODING),
        (b"get %4g\n", BAD_ENCODING),
        (b"get " + b"k" * (KEY_LIMIT + 1) + b"\n", KEY_TOO_LONG),
        (b"get " + b"k" * REQUEST_LIMIT, lines.TOO_LONG),
    ],
)
def test_refuses_what_is_no_request(data: bytes, reason: str) -> None:
    """Lines that no tcp_table client sends are refused with a word from REASONS, after the requests before them."""
    assert feed(TcpTableCodec(), [data]) == Outcome([], reason)
    assert feed(TcpTableCodec(), byte_by_byte(b"get k\n" + data)) == Outcome(
        [MapQuery(b"", b"k")], reason
    )
    assert reason in REASONS


def test_stays_refused() -> None:
    """After a refusal good requests are dropped and the error is raised again."""
    codec = TcpTableCodec()
    codec.receive_data(b"help\nget k\n")
    for _ in range(2):
        with pytest.raises(ProtocolError) as caught:
            codec.next_query()
        assert caught.value.reason == UNKNOWN_COMMAND
        codec.receive_data(b"get k\n")
    assert codec.buffered == 0


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (Found(b"example.com/user/"), b"200 example.com/user/\n"),
        (Found(b"a b%\tc"), b"200 a%20b%25%09c\n"),
        (Found("é\n\x7f".encode()), b"200 %C3%A9%0A%7F\n"),
        (NOT_FOUND, b"500 not%20found\n"),
        (TempFail("backend down"), b"400 backend%20down\n"),
        (PermFail("no such map"), b"400 no%20such%20map\n"),
        (TempFail(""), b"400 \n"),
    ],
)
def test_replies(answer: Answer, reply: bytes) -> None:
    """Each answer becomes the reply that Postfix reads; a failure is never 500."""
    assert TcpTableCodec().encode(answer) == reply


def test_never_an_empty_value() -> None:
    """An empty value becomes 400, because Postfix calls an empty result an error, and never 500."""
    assert TcpTableCodec().encode(Found(b"")).startswith(b"400 ")


@pytest.mark.parametrize(("unit", "encoded_size"), [(b"v", 1), (b" ", 3), (b"\xff", 3)])
def test_longest_reply(unit: bytes, encoded_size: int) -> None:
    """A value is sent whole while its reply fits 4 096 bytes with its LF; after that it becomes 400 and is not cut."""
    room = (REPLY_LIMIT - len("200 \n")) // encoded_size
    reply = TcpTableCodec().encode(Found(unit * room))
    assert reply.startswith(b"200 ")
    assert REPLY_LIMIT - encoded_size < len(reply) <= REPLY_LIMIT
    assert TcpTableCodec().encode(Found(unit * (room + 1))).startswith(b"400 ")


def test_reasons_fit() -> None:
    """A reason of any length and any characters fits a reply."""
    assert len(TcpTableCodec().encode(TempFail("% " * 100_000))) <= REPLY_LIMIT


def test_is_a_map_codec() -> None:
    """A connection can use the codec as a MapCodec."""
    codec: MapCodec = TcpTableCodec()
    assert codec.buffered == 0
