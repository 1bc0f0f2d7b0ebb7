from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailmapd.model import NOT_FOUND, Answer, Found, MapQuery, NotFound, PermFail, TempFail
from mailmapd.protocols import SocketmapCodec
from mailmapd.protocols.socketmap import REASONS
from support.codecs import Outcome, byte_by_byte, cut, feed

MAP_NAMES = st.text(
    st.characters(exclude_characters=" ", exclude_categories=["Cs"]), min_size=1, max_size=20
).map(str.encode)
QUERIES = st.lists(
    st.builds(
        MapQuery, MAP_NAMES, st.binary(max_size=40) | st.integers(900, 1100).map(b"k".__mul__)
    ),
    max_size=8,
)
SIZED_QUERIES = st.builds(MapQuery, MAP_NAMES, st.integers(0, 1100).map(b"k".__mul__))
CUTS = st.lists(st.integers(0, 2000), max_size=12)
SHAPED_GARBAGE = st.lists(
    st.sampled_from(
        [b"0", b"1", b"5", b"12", b":", b",", b" ", b"m k", b"m", b"5:m kkk,", b"3:m k,", b"\n"]
    ),
    max_size=20,
)
GARBAGE = st.binary(max_size=200) | SHAPED_GARBAGE.map(b"".join)
REASON = st.text(max_size=300)
ANSWERS = (
    st.binary(max_size=300).map(Found)
    | st.integers(99_990, 100_010).map(lambda size: Found(b"v" * size))
    | st.just(NOT_FOUND)
    | REASON.map(TempFail)
    | REASON.map(PermFail)
)


def request_of(query: MapQuery) -> bytes:
    payload = query.map + b" " + query.key
    return str(len(payload)).encode() + b":" + payload + b","


SHAPED_REQUESTS = SIZED_QUERIES.map(request_of) | QUERIES.map(
    lambda queries: b"".join(map(request_of, queries))
)


def read_reply(reply: bytes) -> tuple[str, bytes]:
    """Read a reply as Postfix's client does: the length, the status word, the rest."""
    digits, rest = reply.split(b":", 1)
    payload = rest[: int(digits)]
    assert rest[int(digits) :] == b","
    assert len(payload) <= 100_000
    status, value = payload.split(b" ", 1)
    return status.decode(), value


@given(QUERIES, CUTS)
def test_cutting_never_matters(queries: list[MapQuery], cuts: list[int]) -> None:
    """Any sequence of requests, cut anywhere, means the same queries in the same order."""
    data = b"".join(map(request_of, queries))
    assert feed(SocketmapCodec(), cut(data, cuts)) == Outcome([*queries], None)


@given(SHAPED_REQUESTS | GARBAGE)
def test_a_whole_query_is_what_the_reader_reads(data: bytes) -> None:
    """The shortcut for a whole request gives what the reader gives, or nothing.

    It takes every request of up to a kilobyte.
    """
    query = SocketmapCodec().whole_query(data)
    read = feed(SocketmapCodec(), [data])
    if query is not None:
        assert read == Outcome([query], None)
        return
    match read.queries:
        case [MapQuery() as only] if data == request_of(only):
            assert len(data) >= 1024 or not only.key


@given(QUERIES, GARBAGE, CUTS)
def test_garbage_is_only_refused(queries: list[MapQuery], garbage: bytes, cuts: list[int]) -> None:
    """Garbage gives a ProtocolError with a listed reason or nothing, the same for any cut, after
    the good requests before it.
    """
    data = b"".join(map(request_of, queries)) + garbage
    whole = feed(SocketmapCodec(), [data])
    assert whole.queries[: len(queries)] == queries
    assert whole.refusal is None or whole.refusal in REASONS
    assert feed(SocketmapCodec(), cut(data, cuts)) == whole
    assert feed(SocketmapCodec(), byte_by_byte(data)) == whole


@given(ANSWERS)
def test_answers_arrive(answer: Answer) -> None:
    """A client reads the answer that was given.

    A value is whole or TEMP, a failure is never NOTFOUND, and reasons are one line.
    """
    status, value = read_reply(SocketmapCodec().encode(answer))
    match answer:
        case Found() if 0 < len(answer.value) <= 99_997:
            assert (status, value) == ("OK", answer.value)
        case NotFound():
            assert (status, value) == ("NOTFOUND", b"")
        case PermFail():
            assert status == "PERM"
        case _:
            assert status == "TEMP"
    if status in ("TEMP", "PERM"):
        assert value.decode("ascii").isprintable()
