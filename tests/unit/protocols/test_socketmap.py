from __future__ import annotations

import pytest

from mailmapd.errors import ProtocolError
from mailmapd.model import NOT_FOUND, Answer, Found, MapQuery, PermFail, TempFail
from mailmapd.protocols import MapCodec, SocketmapCodec, netstring
from mailmapd.protocols.codec import KEY_LIMIT
from mailmapd.protocols.netstring import encode_netstring
from mailmapd.protocols.reason import REASON_LIMIT
from mailmapd.protocols.socketmap import (
    BAD_REQUEST,
    KEY_TOO_LONG,
    MAP_NAME_LIMIT,
    REASONS,
    REPLY_LIMIT,
)
from support.codecs import Outcome, byte_by_byte, feed

# As Postfix 3.7 sends them: map, key, request.
REQUESTS = [
    (b"mailbox", b"user@example.com", b"24:mailbox user@example.com,"),
    (b"mailbox", b"User+Ext@Example.COM", b"28:mailbox User+Ext@Example.COM,"),
    (b"alias", b"example.com", b"17:alias example.com,"),
    (b"transport", b"*", b"11:transport *,"),
]


@pytest.mark.parametrize(("name", "key", "request_bytes"), REQUESTS)
def test_understands_postfix(name: bytes, key: bytes, request_bytes: bytes) -> None:
    """What Postfix sends becomes the query it means, whole and byte by byte."""
    for pieces in ([request_bytes], byte_by_byte(request_bytes)):
        assert feed(SocketmapCodec(), pieces) == Outcome([MapQuery(name, key)], None)
    assert SocketmapCodec().whole_query(request_bytes) == MapQuery(name, key)


def test_pipelined_requests_keep_their_order() -> None:
    """Requests in one segment come out one by one, in order."""
    data = b"".join(request_bytes for _, _, request_bytes in REQUESTS)
    queries = [MapQuery(name, key) for name, key, _ in REQUESTS]
    assert feed(SocketmapCodec(), [data]) == Outcome([*queries], None)
    assert feed(SocketmapCodec(), byte_by_byte(data)) == Outcome([*queries], None)


@pytest.mark.parametrize(
    "key", [b"", b" ", b"a b c", b" leading", b"\0", b"a\0b\n,:", b"\xff\xfe", b"k" * KEY_LIMIT]
)
def test_a_key_is_any_bytes(key: bytes) -> None:
    """The map ends at the first space; the key is all the rest, whatever it holds."""
    assert feed(SocketmapCodec(), [encode_netstring(b"m " + key)]) == Outcome(
        [MapQuery(b"m", key)], None
    )


def test_longest_request_fits() -> None:
    """The longest map name and the longest key may come together."""
    name = b"m" * MAP_NAME_LIMIT
    request = encode_netstring(name + b" " + b"k" * KEY_LIMIT)
    assert feed(SocketmapCodec(), [request]) == Outcome([MapQuery(name, b"k" * KEY_LIMIT)], None)


def test_map_name_that_is_not_utf8() -> None:
    """A map name may be any bytes."""
    outcome = feed(SocketmapCodec(), [b"7:m\xfc\xc3\xa9 kk,"])
    assert outcome == Outcome([MapQuery(b"m\xfc\xc3\xa9", b"kk")], None)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"3:map,", BAD_REQUEST),
        (b"0:,", BAD_REQUEST),
        (b"4: key,", BAD_REQUEST),
        (encode_netstring(b"m " + b"k" * (KEY_LIMIT + 1)), KEY_TOO_LONG),
        (b"10257:", netstring.TOO_LONG),
        (b"get user@example.com\n", netstring.BAD_LENGTH),
        (b"5:m key;,", netstring.BAD_TERMINATOR),
    ],
)
def test_refuses_what_is_no_request(data: bytes, reason: str) -> None:
    """Bytes that no socketmap client sends are refused with a word from REASONS, after the requests before them."""
    assert feed(SocketmapCodec(), [data]) == Outcome([], reason)
    assert feed(SocketmapCodec(), byte_by_byte(b"3:m k," + data)) == Outcome(
        [MapQuery(b"m", b"k")], reason
    )
    assert reason in REASONS


def test_stays_refused() -> None:
    """After a refusal good requests are dropped and the error is raised again."""
    codec = SocketmapCodec()
    codec.receive_data(b"3:map,")
    for _ in range(2):
        with pytest.raises(ProtocolError) as caught:
            codec.next_query()
        assert caught.value.reason == BAD_REQUEST
        codec.receive_data(b"3:m k,")
    assert codec.buffered == 0


def test_errors_hold_no_client_bytes() -> None:
    """The text of a refusal does not repeat what the client sent."""
    codec = SocketmapCodec()
    codec.receive_data(b"6:secret,")
    with pytest.raises(ProtocolError) as caught:
        codec.next_query()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (Found(b"example.com/user/"), b"20:OK example.com/user/,"),
        (Found("jürgen".encode()), b"10:OK j\xc3\xbcrgen,"),
        (Found(b"x" * 2000), b"2003:OK " + b"x" * 2000 + b","),
        (NOT_FOUND, b"9:NOTFOUND ,"),
        (TempFail("backend down"), b"17:TEMP backend down,"),
        (PermFail("no such map"), b"16:PERM no such map,"),
        (TempFail("two\nlines"), b"14:TEMP two lines,"),
    ],
)
def test_replies(answer: Answer, reply: bytes) -> None:
    """Each answer becomes the reply that Postfix reads."""
    assert SocketmapCodec().encode(answer) == reply


def test_never_an_empty_ok() -> None:
    """An empty value becomes TEMP, because Postfix calls an empty OK an error, and never NOTFOUND."""
    assert b":TEMP " in SocketmapCodec().encode(Found(b""))


def test_longest_reply() -> None:
    """The longest value that Postfix reads is sent whole; one byte more becomes TEMP and is not cut."""
    room = REPLY_LIMIT - len("OK ")
    assert SocketmapCodec().encode(Found(b"v" * room)) == b"100000:OK " + b"v" * room + b","
    assert b":TEMP " in SocketmapCodec().encode(Found(b"v" * (room + 1)))


@pytest.mark.parametrize("size", [1, 9, 10, 96, 97, 98, 996, 997, 1023, 1024, 9996, 9997])
def test_lengths_of_replies(size: int) -> None:
    """The length in front is right where it gains a digit and where another path encodes."""
    assert SocketmapCodec().encode(Found(b"v" * size)) == b"%d:OK %b," % (size + 3, b"v" * size)


def test_reasons_are_short() -> None:
    """A reason of any length is cut, not sent."""
    assert len(SocketmapCodec().encode(TempFail("x" * 1_000_000))) < REASON_LIMIT + 20


def test_is_a_map_codec() -> None:
    """A connection can use the codec as a MapCodec."""
    codec: MapCodec = SocketmapCodec()
    assert codec.buffered == 0
