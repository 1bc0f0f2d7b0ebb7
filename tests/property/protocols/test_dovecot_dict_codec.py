from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from mailmapd.model import (
    NOT_FOUND,
    Answer,
    DictCommit,
    DictIterate,
    DictLookup,
    DictQuery,
    Found,
    MapQuery,
    NotFound,
    PermFail,
    Query,
    TempFail,
)
from mailmapd.protocols import DictCodec
from mailmapd.protocols.dovecot_dict import REASONS
from mailmapd.protocols.tab_escape import escape, split, unescape
from support.codecs import Outcome, byte_by_byte, cut, feed

HELLO = b"H3\t2\t0\t\tauth\n"
TEXT = st.binary(max_size=30) | st.sampled_from([b"shared/passdb/anna", b"\x01", b"\t", b"\n\r\0"])
CUTS = st.lists(st.integers(0, 1500), max_size=12)
LETTERS = [letter.encode() for letter in "HLIBSUATVCDRX"]
SHAPED_GARBAGE = st.lists(
    st.sampled_from(
        [*LETTERS, b"\t", b"\n", b"\x01", b"1", b"2", b"-1", b"k", b"B1\n", b"C1\n", b"Lk\tu\n"]
    ),
    max_size=30,
)
GARBAGE = st.binary(max_size=200) | SHAPED_GARBAGE.map(b"".join)
REASON = st.text(max_size=300)
ANSWERS = (
    st.binary(max_size=300).map(Found)
    | st.just(NOT_FOUND)
    | REASON.map(TempFail)
    | REASON.map(PermFail)
)
LOOKUPS = st.builds(DictLookup, st.just("auth"), TEXT, TEXT)
ITERATES = st.builds(
    DictIterate, st.just("auth"), TEXT, TEXT, st.integers(0, 2**64 - 1), st.booleans()
)
COMMITS = st.builds(
    DictCommit,
    st.just("auth"),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
QUERIES = st.lists(LOOKUPS | ITERATES | COMMITS, max_size=6)
ROWS = st.lists(st.tuples(TEXT, TEXT), max_size=6)


def client_escape(value: bytes) -> bytes:
    for raw, letter in (
        (b"\x01", b"1"),
        (b"\0", b"0"),
        (b"\t", b"t"),
        (b"\n", b"n"),
        (b"\r", b"r"),
    ):
        value = value.replace(raw, b"\x01" + letter)
    return value


def client_unescape(argument: bytes) -> bytes:
    value = bytearray()
    position = 0
    while position < len(argument):
        if argument[position] == 1:
            position += 1
            value += {
                ord("0"): b"\0",
                ord("1"): b"\x01",
                ord("t"): b"\t",
                ord("n"): b"\n",
                ord("r"): b"\r",
            }[argument[position]]
        else:
            value.append(argument[position])
        position += 1
    return bytes(value)


def command(letter: str, *arguments: bytes) -> bytes:
    return letter.encode() + b"\t".join(map(client_escape, arguments)) + b"\n"


def commands_of(query: DictQuery) -> bytes:
    match query:
        case DictLookup():
            return command("L", query.key, query.user)
        case DictIterate():
            flags = b"9" if query.no_value else b"1"
            return command("I", flags, str(query.limit).encode(), query.prefix, query.mask)
        case DictCommit():
            number = str(query.transaction).encode()
            return (
                command("B", number, b"anna")
                + command("S", number, b"key\t", b"value\n")
                + command("U", number, b"key")
                + command("A", number, b"count", b"-3")
                + command("C" if query.wants_reply else "D", number)
            )


@dataclass
class Reply:
    """A reply: what Dovecot's client makes of the lines for one command."""

    letter: str
    arguments: list[bytes]


def read_lines(data: bytes) -> list[Reply]:
    assert data.endswith(b"\n")
    return [
        Reply(
            line[:1].decode("ascii"),
            [client_unescape(argument) for argument in line[1:].split(b"\t")],
        )
        for line in data[:-1].split(b"\n")
    ]


@given(QUERIES, CUTS)
def test_cutting_never_matters(queries: list[Query], cuts: list[int]) -> None:
    """Any sequence of commands, cut anywhere, means the same queries in the same order."""
    data = HELLO + b"".join(
        [commands_of(query) for query in queries if not isinstance(query, MapQuery)]
    )
    assert feed(DictCodec(), cut(data, cuts)) == Outcome(queries, None)


@given(st.lists(LOOKUPS, max_size=3), GARBAGE, CUTS, st.booleans())
def test_garbage_is_only_refused(
    lookups: list[DictLookup], garbage: bytes, cuts: list[int], hello: bool
) -> None:
    """Garbage gives a ProtocolError with a listed reason or nothing, the same for any cut, after
    the good commands before it.
    """
    good = HELLO + b"".join(map(commands_of, lookups)) if hello else b""
    data = good + garbage
    whole = feed(DictCodec(), [data])
    if hello:
        assert whole.queries[: len(lookups)] == lookups
    assert whole.refusal is None or whole.refusal in REASONS
    assert feed(DictCodec(), cut(data, cuts)) == whole
    assert feed(DictCodec(), byte_by_byte(data)) == whole


@given(LOOKUPS | ITERATES | COMMITS, GARBAGE)
def test_a_whole_query_is_what_the_reader_reads(query: DictQuery, garbage: bytes) -> None:
    """The shortcut for a whole lookup gives what the reader gives, or nothing.

    It takes every lookup that names its user.
    """
    for data in (commands_of(query), b"L" + garbage, b"L" + garbage + b"\n", garbage):
        whole = greeted().whole_query(data)
        assert whole is None or feed(greeted(), [data]) == Outcome([whole], None)
        assert whole is not None or data != commands_of(query) or not isinstance(query, DictLookup)
    assert DictCodec().whole_query(commands_of(query)) is None, "taken before the hello"


def greeted() -> DictCodec:
    codec = DictCodec()
    codec.receive_data(HELLO)
    assert codec.next_query() is None
    return codec


@given(LOOKUPS, ANSWERS)
def test_answers_to_lookups_arrive(query: DictLookup, answer: Answer) -> None:
    """A client reads the value, N or a failure of one line, never an unknown letter."""
    (reply,) = read_lines(DictCodec().encode(query, answer))
    match answer:
        case Found():
            assert (reply.letter, reply.arguments) == ("O", [answer.value])
        case NotFound():
            assert (reply.letter, reply.arguments) == ("N", [b""])
        case TempFail() | PermFail():
            assert reply.letter == "F"
            assert reply.arguments[0].decode("ascii").isprintable()


@given(COMMITS, ANSWERS)
def test_answers_to_commits_arrive(query: DictCommit, answer: Answer) -> None:
    """A client reads the id of its transaction and how it ended."""
    data = DictCodec().encode(query, answer)
    if not query.wants_reply:
        assert data[:1] == b"A"
        data = data[1:]
    (reply,) = read_lines(data)
    assert reply.arguments[0] == str(query.transaction).encode()
    match answer:
        case Found():
            assert (reply.letter, len(reply.arguments)) == ("O", 1)
        case NotFound():
            assert (reply.letter, len(reply.arguments)) == ("N", 1)
        case TempFail() | PermFail():
            assert (reply.letter, len(reply.arguments)) == ("F", 2)


@given(ITERATES, ROWS, ANSWERS)
def test_rows_arrive(query: DictIterate, rows: list[tuple[bytes, bytes]], answer: Answer) -> None:
    """A client reads every row with its TAB, without values if it wants none, and then the end or the failure."""
    codec = DictCodec()
    rows = [(query.prefix + key, value) for key, value in rows]
    *replies, end = read_lines(codec.encode_rows(query, rows) + codec.encode(query, answer))
    assert replies == [Reply("O", [key, b"" if query.no_value else value]) for key, value in rows]
    assert end.letter == ("" if isinstance(answer, Found | NotFound) else "F")


@given(st.binary(), st.lists(st.binary(), min_size=1))
def test_escaping_comes_back(value: bytes, arguments: list[bytes]) -> None:
    """Any bytes survive escaping, alone and side by side.

    An escaped value has nothing that ends an argument or a line.
    """
    assert unescape(escape(value)) == value
    assert not set(escape(value)) & set(b"\0\t\n\r")
    assert split(b"\t".join(map(escape, arguments))) == arguments
