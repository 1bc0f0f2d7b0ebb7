from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from mailmapd.model import NOT_FOUND, Answer, Found, MapQuery, NotFound, PermFail, TempFail
from mailmapd.protocols import TcpTableCodec
from mailmapd.protocols.tcp_table import REASONS
from support.codecs import Outcome, byte_by_byte, cut, feed

KEYS = st.binary(max_size=60) | st.just(b" " * 10_000)
CUTS = st.lists(st.integers(0, 2000), max_size=12)
SHAPED_GARBAGE = st.lists(
    st.sampled_from(
        [b"get ", b"put ", b"k", b"%", b"%4", b"%20", b"%zz", b"\n", b" ", b"\r", b"\xff"]
    ),
    max_size=20,
)
GARBAGE = st.binary(max_size=200) | SHAPED_GARBAGE.map(b"".join)
REASON = st.text(max_size=300)
ANSWERS = (
    st.binary(max_size=300).map(Found)
    | st.integers(4_080, 4_100).map(lambda size: Found(b"v" * size))
    | st.integers(1_355, 1_370).map(lambda size: Found(b" " * size))
    | st.just(NOT_FOUND)
    | REASON.map(TempFail)
    | REASON.map(PermFail)
)


def request_of(key: bytes) -> bytes:
    """Encode as Postfix's hex_quote does: printable ASCII but white space and % stays, the rest becomes %XX."""
    encoded = re.sub("[^!-~]|%", lambda match: f"%{ord(match[0]):02X}", key.decode("latin-1"))
    return f"get {encoded}\n".encode()


def read_reply(reply: bytes) -> tuple[int, bytes]:
    """Read a reply as Postfix's client does: one line of at most 4 096 bytes, three digits, a blank, encoded text."""
    assert len(reply) <= 4096
    match = re.fullmatch(r"([245]\d\d) ([!-~]*)\n", reply.decode("ascii"))
    assert match is not None
    text = re.sub("%([0-9A-Fa-f]{2})", lambda code: chr(int(code[1], 16)), match[2])
    return int(match[1]), text.encode("latin-1")


@given(st.lists(KEYS, max_size=6), CUTS)
def test_cutting_never_matters(keys: list[bytes], cuts: list[int]) -> None:
    """Any sequence of requests, cut anywhere, means the same keys in the same order."""
    data = b"".join(map(request_of, keys))
    assert feed(TcpTableCodec(), cut(data, cuts)) == Outcome(
        [MapQuery(b"", key) for key in keys], None
    )


@given(
    KEYS.map(request_of)
    | st.binary(min_size=1, max_size=30).map(lambda key: b"get " + key + b"\n")
    | GARBAGE
)
def test_a_whole_query_is_what_the_reader_reads(data: bytes) -> None:
    """The shortcut for a whole request gives what the reader gives, or nothing."""
    query = TcpTableCodec().whole_query(data)
    assert query is None or feed(TcpTableCodec(), [data]) == Outcome([query], None)


@given(st.lists(st.binary(max_size=20), max_size=4), GARBAGE, CUTS)
def test_garbage_is_only_refused(keys: list[bytes], garbage: bytes, cuts: list[int]) -> None:
    """Garbage gives a ProtocolError with a listed reason or nothing, the same for any cut, after
    the good requests before it.
    """
    data = b"".join(map(request_of, keys)) + garbage
    whole = feed(TcpTableCodec(), [data])
    assert whole.queries[: len(keys)] == [MapQuery(b"", key) for key in keys]
    assert whole.refusal is None or whole.refusal in REASONS
    assert feed(TcpTableCodec(), cut(data, cuts)) == whole
    assert feed(TcpTableCodec(), byte_by_byte(data)) == whole


@given(ANSWERS)
def test_answers_arrive(answer: Answer) -> None:
    """A client reads the answer that was given; a value is whole or 400, and only a definite "not found" is 500."""
    code, text = read_reply(TcpTableCodec().encode(answer))
    match answer:
        case Found():
            assert (code, text) == (200, answer.value) or (
                code == 400 and not 0 < len(answer.value) <= 1363
            )
        case NotFound():
            assert code == 500
        case TempFail() | PermFail():
            assert code == 400
            assert text.decode("ascii").isprintable()
