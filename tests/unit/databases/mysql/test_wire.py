from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmapd.databases.mysql.framing import MAX_PACKET, WireError
from mailmapd.databases.mysql.wire import (
    MAX_RESULT,
    STATUS_MORE_RESULTS,
    ReplyReader,
    ServerError,
    encode_query,
)
from mailmapd.model import Row


def lenenc(number: int) -> bytes:
    for limit, head, width in ((251, b"", 1), (1 << 16, b"\xfc", 2), (1 << 24, b"\xfd", 3)):
        if number < limit:
            return head + number.to_bytes(width, "little")
    return b"\xfe" + number.to_bytes(8, "little")


def packets(*payloads: bytes, first: int = 1) -> bytes:
    """Number and frame payloads, splitting those that are too long for one packet."""
    out = []
    for payload in payloads:
        pieces = [
            payload[start : start + MAX_PACKET] for start in range(0, len(payload) + 1, MAX_PACKET)
        ]
        for piece in pieces:
            out.append(len(piece).to_bytes(3, "little") + bytes([first & 0xFF]) + piece)
            first += 1
    return b"".join(out)


def ok(status: int = 2) -> bytes:
    return b"\0\0\0" + status.to_bytes(2, "little") + b"\0\0"


def eof(status: int = 2) -> bytes:
    return b"\xfe\0\0" + status.to_bytes(2, "little")


def column(name: str) -> bytes:
    strings = [b"def", b"mail", b"t", b"t", name.encode(), name.encode()]
    return (
        b"".join([lenenc(len(text)) + text for text in strings])
        + b"\x0c"
        + b"\x2d\0\0\1\0\0\xfd\0\0\0\0\0"
    )


def row(*values: bytes | None) -> bytes:
    return b"".join([b"\xfb" if value is None else lenenc(len(value)) + value for value in values])


def result_set(names: list[str], rows: list[Row], status: int = 2) -> list[bytes]:
    return [
        lenenc(len(names)),
        *[column(name) for name in names],
        eof(),
        *[row(*values) for values in rows],
        eof(status),
    ]


def read(data: bytes, max_result: int = MAX_RESULT) -> ReplyReader:
    reader = ReplyReader(max_result=max_result)
    assert reader.receive_data(data)
    return reader


def test_query() -> None:
    """COM_QUERY is one packet for any ordinary query."""
    assert encode_query(b"SELECT 1") == b"\x09\0\0\0\x03SELECT 1"


@pytest.mark.parametrize("size", [MAX_PACKET - 2, MAX_PACKET - 1, MAX_PACKET, 2 * MAX_PACKET - 1])
def test_long_query(size: int) -> None:
    """A query of 16 MiB and more is split, and a packet of full length is followed by another."""
    data = encode_query(b"x" * size)
    lengths, at, number = [], 0, 0
    while at < len(data):
        lengths.append(int.from_bytes(data[at : at + 3], "little"))
        assert data[at + 3] == number
        at += 4 + lengths[-1]
        number += 1
    assert sum(lengths) == size + 1
    assert lengths[-1] < MAX_PACKET
    assert all(length == MAX_PACKET for length in lengths[:-1])


def test_rows() -> None:
    """A result set gives its column names, and values as bytes with NULL as None."""
    reader = read(packets(*result_set(["a", "ü"], [(b"1", None), (b"", b"\xff\0")], status=0x22)))
    assert reader.columns == ("a", "ü")
    assert reader.rows == [(b"1", None), (b"", b"\xff\0")]
    assert (reader.result_sets, reader.status, reader.error) == (1, 0x22, None)


def test_long_values() -> None:
    """Values of every length class arrive whole."""
    values = tuple([b"x" * size for size in (250, 251, 65535, 65536)])
    assert read(packets(*result_set(["a", "b", "c", "d"], [values]))).rows == [values]


def test_value_across_packets() -> None:
    """A row longer than a packet is put together."""
    value = b"y" * (MAX_PACKET + 5)
    assert read(packets(*result_set(["a"], [(value,)])), max_result=1 << 30).rows == [(value,)]


def test_no_result_set() -> None:
    """An OK has no columns, which is not the same as a result set without rows."""
    reader = read(packets(ok()))
    assert (reader.columns, reader.rows, reader.result_sets) == (None, [], 0)
    reader = read(packets(*result_set(["a"], [])))
    assert (reader.columns, reader.rows, reader.result_sets) == (("a",), [], 1)


def test_call() -> None:
    """CALL's result set is complete only with the OK that follows.

    Of several sets the first is kept and all are counted.
    """
    first_set = result_set(["a"], [(b"1",)], STATUS_MORE_RESULTS)
    reader = ReplyReader()
    assert not reader.receive_data(packets(*first_set))
    assert reader.receive_data(packets(ok(), first=1 + len(first_set)))
    assert (reader.rows, reader.result_sets) == ([(b"1",)], 1)
    reader = read(
        packets(*first_set, *result_set(["b"], [(b"2",), (b"3",)], STATUS_MORE_RESULTS), ok())
    )
    assert (reader.columns, reader.rows, reader.result_sets) == (("a",), [(b"1",)], 2)


def test_error() -> None:
    """An error ends the reply wherever it comes, with its number and text."""
    refusal = b"\xff\x7a\x04#42S02Table 'x' doesn't exist"
    whole = result_set(["a"], [(b"1",)])
    for before in ([], whole[:1], whole[:3], whole[:4], [*whole[:-1], eof(STATUS_MORE_RESULTS)]):
        assert read(packets(*before, refusal)).error == ServerError(1146, "Table 'x' doesn't exist")


def test_next_command() -> None:
    """The reader starts afresh with each command."""
    reader = read(packets(*result_set(["a"], [(b"1",)])))
    reader.start()
    assert reader.receive_data(packets(ok()))
    assert (reader.columns, reader.rows, reader.result_sets) == (None, [], 0)


@pytest.mark.parametrize(
    "data",
    [
        packets(b"\xfb/etc/passwd"),
        packets(b""),
        packets(ok(), first=2),
        packets(ok()) + b"\0",
        packets(b"\0\0\0"),
        packets(b"\xff\x01"),
        packets(lenenc(1), column("a"), eof(), b"\x05abc"),
        packets(lenenc(1), column("a"), eof(), b"\xfd\x05"),
        packets(lenenc(1), column("a"), eof(), row(b"1", b"2")),
        packets(lenenc(2), column("a"), column("b"), eof(), row(b"1")),
        packets(lenenc(1), b"\x03def\x09", eof()),
    ],
)
def test_violations(data: bytes) -> None:
    """A server that breaks the protocol, or asks for a file, raises WireError."""
    with pytest.raises(WireError):
        ReplyReader().receive_data(data)


def test_result_limit() -> None:
    """A reply beyond the limit raises, unless the caller takes rows away."""
    data = packets(*result_set(["a"], [(b"x" * 100,)]))
    with pytest.raises(WireError, match="larger than 100 bytes"):
        read(data, max_result=100)
    reader = ReplyReader(max_result=100)
    reader.start(stream=True)
    assert reader.receive_data(data)
    assert len(reader.take_rows()) == 1
    assert reader.rows == []


def fed(reader: ReplyReader, piece: bytes) -> int:
    """Feed a piece until the reader has enough of it; return how many bytes it took."""
    fed = 0
    while True:
        try:
            assert not reader.receive_data(piece)
        except WireError:
            return fed
        fed += len(piece)


def test_rows_without_end() -> None:
    """What rows take in memory counts, not only what they take on the wire."""
    reader = ReplyReader(max_result=1_000_000)
    reader.receive_data(packets(lenenc(1), column("a"), eof()))
    numbered = packets(*[row(b"")] * 256, first=4)
    assert fed(reader, numbered) < 60_000
    assert reader.overflow


def test_result_sets_without_end() -> None:
    """Result sets and OKs that promise another one end at the limit."""
    reader = ReplyReader(max_result=1_000_000)
    assert fed(reader, packets(*[ok(STATUS_MORE_RESULTS)] * 256, first=1)) <= 1_000_000


def test_columns_without_end() -> None:
    """A result has at most as many columns as a server can have."""
    reader = ReplyReader()
    reader.receive_data(packets(lenenc(1)))
    with pytest.raises(WireError, match="more than 4096 columns"):
        reader.receive_data(packets(*[column("a")] * 5000, first=2))


def test_chained_packets() -> None:
    """A row of a long result that goes on and on is refused by its length, before it has come."""
    reader = ReplyReader()
    reader.start(stream=True)
    reader.receive_data(packets(lenenc(1), column("a"), eof()))
    reader.receive_data(b"\xff\xff\xff\x04" + b"x" * MAX_PACKET)
    with pytest.raises(WireError, match="a packet of more than"):
        reader.receive_data(b"\xff\xff\xff\x05x")


def test_long_definitions_are_not_kept() -> None:
    """Heads of any length are read, and only ordinary ones remembered, a few of them."""
    reader = ReplyReader()
    for number in range(20):
        reader.start()
        name = f"{number:04}" * 1000
        assert reader.receive_data(packets(*result_set([name], [])))
        assert reader.columns == (name,)
    assert not reader._heads
    for number in range(100):
        reader.start()
        assert reader.receive_data(packets(*result_set([f"{number}"], [])))
    assert len(reader._heads) <= 16


def test_long_error() -> None:
    """An error's text is cut."""
    reader = read(packets(b"\xff\x7a\x04#42S02" + b"x" * 100_000))
    assert reader.error == ServerError(1146, "x" * 1024)


VALUES = st.one_of(st.none(), st.binary(max_size=300))


@given(st.lists(st.tuples(VALUES, VALUES), max_size=8), st.data())
def test_any_chunking(rows: list[Row], data: st.DataObject) -> None:
    """However the bytes of a reply are cut, the same rows come out, and only the last piece completes it."""
    whole = packets(*result_set(["a", "b"], rows, STATUS_MORE_RESULTS), ok())
    reader = ReplyReader()
    at = 0
    while at < len(whole):
        size = data.draw(st.integers(1, 64))
        piece, at = whole[at : at + size], at + size
        assert reader.receive_data(piece) is (at >= len(whole))
    assert reader.rows == rows


@given(st.lists(st.binary(max_size=40), max_size=5), st.booleans())
def test_garbage(pieces: list[bytes], framed: bool) -> None:
    """Whatever a server sends, nothing but WireError is raised."""
    reader = ReplyReader()
    data = packets(*pieces) if framed else b"".join(pieces)
    with suppress(WireError):
        reader.receive_data(data)


@given(st.binary(max_size=60))
def test_damaged_reply(garbage: bytes) -> None:
    """Garbage in the middle of a good reply raises nothing but WireError."""
    whole = packets(*result_set(["a"], [(b"1",)]))
    for cut in (5, 20, len(whole) - 8):
        with suppress(WireError):
            ReplyReader().receive_data(whole[:cut] + garbage + whole[cut:])


def told(reader: ReplyReader, *pieces: bytes) -> list[object]:
    """Return what a reader says of one reply, piece by piece."""
    reader.start()
    reader.status = 0
    told: list[object] = []
    for piece in pieces:
        try:
            complete = reader.receive_data(piece)
        except WireError as error:
            return [*told, str(error)]
        seen = (reader.columns, tuple(reader.rows), reader.error, reader.result_sets)
        told.append((complete, *seen, reader.status))
        if complete:
            break
    return told


ONE_SET = result_set(["a", "b"], [(b"1", None)])
ONE_OF_MORE = result_set(["a"], [(b"1",)], STATUS_MORE_RESULTS)
REFUSAL = b"\xff\x7a\x04#42S02no table"
KNOWN = [
    packets(*ONE_SET),
    packets(*result_set(["a", "b"], [])),
    packets(*result_set(["a", "b"], [(b"1", b""), (None, None)])),
    packets(*result_set(["a"], [(b"x" * 300,)])),
    packets(*ONE_OF_MORE, ok()),
    packets(*ONE_OF_MORE, *ONE_SET),
    packets(*ONE_SET[:-2], eof(STATUS_MORE_RESULTS), eof()),
    packets(*ONE_SET[:-1], REFUSAL),
    packets(*ONE_SET[:-2], REFUSAL, eof()),
    packets(ok(STATUS_MORE_RESULTS), *ONE_SET),
    packets(ok(STATUS_MORE_RESULTS), *ONE_SET[:-1], REFUSAL),
    packets(ok(STATUS_MORE_RESULTS)) + packets(*ONE_SET),
    packets(*ONE_SET, first=2),
    packets(ok()),
]


@pytest.mark.parametrize("number", range(len(KNOWN)))
def test_known_heads(number: int) -> None:
    """A reply means the same to a connection that knows its beginning: cut anywhere, and with any byte damaged."""
    experienced = ReplyReader()
    for known in KNOWN:
        for at in range(len(known)):
            told(experienced, known[:at], known[at:])
    whole = KNOWN[number]
    for at in range(len(whole)):
        pieces = (whole[:at], whole[at:])
        assert told(experienced, *pieces) == told(ReplyReader(), *pieces)
        for byte in {0, 1, whole[at] - 1, whole[at] + 1, 0xFB, 0xFC, 0xFE, 0xFF} & set(range(256)):
            told(experienced, whole)  # which a damaged one before may have displaced
            damaged = whole[:at] + bytes([byte]) + whole[at + 1 :]
            assert told(experienced, damaged) == told(ReplyReader(), damaged)
    assert len({head.packets for head in experienced._heads}) == len(experienced._heads)


class CountingReader(ReplyReader):
    """Counts how often it reads packet by packet."""

    def __init__(self) -> None:
        self.count = 0
        super().__init__()

    def _read(self, data: bytes, at: int = 0) -> bool:
        self.count += 1
        return super()._read(data, at)


def test_short_replies() -> None:
    """A reply of one short row, or none, is read at one go once its statement's head is known."""
    reader = CountingReader()
    replies: list[list[Row]] = [[(b"1", None)], [], [(None, b"x" * 200)], [(b"", b"")]]
    for names in (["a", "b"], ["a", "c"], ["a", "b"]):
        for rows in replies:
            told(reader, packets(*result_set(names, rows)))
            assert reader.rows == rows
    assert reader.count == 2
