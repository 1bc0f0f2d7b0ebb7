"""What a server that streams its log may send, and ask us to unpack, is bounded; what is passed over is named."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from collections.abc import Iterable
from itertools import islice

import pytest
import zstandard

from fuzz.targets.binlog import PACKED_INSERT, ROW, ROWS, TABLE_MAP, packed
from mailmapd.databases.mysql.binlog.commands import PlaceError, encode_dump, encode_dump_gtid
from mailmapd.databases.mysql.binlog.events import (
    Change,
    Event,
    NotUnderstood,
    RowsChanged,
    RowsUnreadable,
    StatementLogged,
    TransactionEnded,
)
from mailmapd.databases.mysql.binlog.packing import UNPACKED_LIMIT
from mailmapd.databases.mysql.binlog.reader import (
    COLUMNS_LIMIT,
    EVENT_LIMIT,
    ROWS_LIMIT,
    SQL_LIMIT,
    BinlogError,
    BinlogReader,
)
from mailmapd.databases.mysql.binlog.rows import ROWS_AT_ONCE
from mailmapd.databases.mysql.framing import encode_payload
from support.binlog_events import bare, event, transaction

STOP, ROTATE, FORMAT_DESCRIPTION = 3, 4, 15
ARTIFICIAL = 0x20
UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


def reader() -> BinlogReader:
    return BinlogReader(lambda _schema, _table, _count: (0,), checksum=False)


def heard(reader: BinlogReader, data: bytes) -> list[Event]:
    reader.receive_data(data)
    return [event for event in reader.events() if event is not None]


def described() -> BinlogReader:
    new = reader()
    assert heard(new, event(19, TABLE_MAP)) == []
    return new


def test_rows_up_to_the_limit() -> None:
    """Rows are read up to a size, packed or not, and beyond it their table is named."""
    for kind, wrap in ((23, bytes), (PACKED_INSERT, packed)):
        many = ROWS_LIMIT // len(ROW)
        read = heard(described(), event(kind, ROWS + b"\2\xff" + wrap(ROW * many)))
        assert (
            sum([len(logged.changes) for logged in read if isinstance(logged, RowsChanged)]) == many
        )
        [passed] = heard(described(), event(kind, ROWS + b"\2\xff" + wrap(ROW * (many + 1))))
        assert isinstance(passed, RowsUnreadable)
        assert (passed.schema, passed.table) == ("t", "a")
        assert str(ROWS_LIMIT) in passed.reason


@pytest.mark.parametrize("image", [b"\2\0" + ROW, b"\2\0", b"\2\3", b"\3\7" + ROW])
def test_rows_that_say_nothing(image: bytes) -> None:
    """Rows without a column, or with other ones, end, and are not passed over: their table is named."""
    [found] = heard(described(), event(23, ROWS + image))
    assert isinstance(found, RowsUnreadable)
    assert (found.schema, found.table) == ("t", "a")


def test_what_is_packed_and_endless() -> None:
    """A statement that becomes very long is cut, and nobody has to hold it."""
    sql = b"\x04" + bytes(4) + zlib.compress(bytes(UNPACKED_LIMIT), 9)
    [found] = heard(reader(), event(165, bytes(13) + b"\0" + sql))
    assert isinstance(found, StatementLogged)
    assert len(found.sql) == SQL_LIMIT


def test_a_table_that_cannot_be() -> None:
    """A map with more columns than a table can have leaves no older one in its place."""
    known = described()
    wide = TABLE_MAP[:14] + b"\xfd\0\0\x10" + b"\3" * 0x100000
    assert [type(found) for found in heard(known, event(19, wide))] == [NotUnderstood]
    [found] = heard(known, event(23, ROWS + b"\2\xff" + ROW))
    assert isinstance(found, NotUnderstood)


def test_an_event_without_end() -> None:
    """A stream ends with the packet that makes its event too long, before that packet is here."""
    stream = reader()
    size = 0xFFFFFF
    part = b"\xff\xff\xff\0" + bytes(size)
    for _ in range(EVENT_LIMIT // size):
        assert heard(stream, part) == []
    with pytest.raises(BinlogError, match="a packet of more than"):
        heard(stream, part[:4])


@pytest.mark.parametrize(
    ("file", "position"), [("binlog.000001", 1 << 32), ("b\ufffdlog.000001", 4)]
)
def test_places_that_cannot_be_asked_for(file: str, position: int) -> None:
    """A place that the command has no room for, or no letters, says so."""
    with pytest.raises(PlaceError):
        encode_dump(file, position, 1)
    assert encode_dump("binlog.000001", (1 << 32) - 1, 1)


@pytest.mark.parametrize("part", [f"1-{1 << 64}", "0-5", "5-1", "-1", "tag:1"])
def test_sets_that_cannot_be_sent(part: str) -> None:
    """Numbers that no transaction has are refused like what is no set at all."""
    with pytest.raises(PlaceError, match="not understood"):
        encode_dump_gtid(f"{UUID}:{part}", 1)
    assert encode_dump_gtid(f"{UUID}:1-{(1 << 63) - 1}", 1)


TINY = b"\1\0\0\0\0\0" + b"\0\0" + b"\1t\0" + b"\1a\0" + b"\1\x01" + b"\0" + b"\1"
"""The description of table 1, t.a, with one TINYINT: its rows take two bytes."""


def in_window(bits: int) -> bytes:
    """Return the end of a transaction, packed so that unpacking takes so much memory."""
    parameters = zstandard.ZstdCompressionParameters(window_log=bits)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(bare(16, bytes(8))) + packer.flush()


def rows_of(events: Iterable[Event | None]) -> int:
    return sum([len(logged.changes) for logged in events if isinstance(logged, RowsChanged)])


def tiny_rows(count: int) -> bytes:
    return event(23, ROWS + b"\1\xff" + b"\0\1" * count)


def longest_step(reader: BinlogReader) -> float:
    """Return how many seconds of the processor the longest step takes."""
    longest = 0.0
    steps = reader.events()
    while True:
        begun = time.thread_time()
        if next(steps, steps) is steps:
            return longest
        longest = max(longest, time.thread_time() - begun)


def test_an_event_of_very_many_rows_comes_in_steps() -> None:
    """The rows of one event come some at a time, and one step of it takes no longer than lookups may wait."""
    count = ROWS_LIMIT // 2
    times, known = [], reader()
    for _ in range(3):
        known.receive_data(event(19, TINY) + tiny_rows(count))
        times.append(longest_step(known))
    assert min(times) < 0.005
    known.receive_data(tiny_rows(count))
    assert max(rows_of([logged]) for logged in known.events()) == ROWS_AT_ONCE
    wide = TINY[:14] + b"\xfc\xa0\x0f" + b"\1" * 4000 + b"\0" + bytes(500)
    known.receive_data(event(19, wide))
    image = b"\xfc\xa0\x0f" + b"\xff" * 500 + (bytes(500) + bytes(4000)) * 3
    known.receive_data(event(23, ROWS + image))
    assert [rows_of([logged]) for logged in known.events() if logged is not None] == [1, 1, 1]


def test_a_packed_transaction_comes_in_steps() -> None:
    """A transaction of four megabytes is unpacked and read some at a time, whatever its events are."""
    wanted = bare(19, TINY) + bare(23, ROWS + b"\1\xff" + b"\0\1" * 100_000)
    idle = bare(29, b"") * ((UNPACKED_LIMIT - len(wanted)) // 19)
    data = transaction(wanted + idle)
    times, known = [], reader()
    for _ in range(3):
        known.receive_data(data)
        times.append(longest_step(known))
    assert min(times) < 0.01
    known.receive_data(data)
    assert rows_of(known.events()) == 100_000


@pytest.mark.parametrize(
    ("kind", "change"), [(23, Change(None, ())), (24, Change((), ())), (25, Change((), None))]
)
def test_rows_of_which_no_column_is_read(kind: int, change: Change) -> None:
    """Of a table whose columns nobody knows, or nobody reads, all rows of an event are one change."""
    known = BinlogReader(lambda _schema, _table, _count: (), checksum=False)
    masks = b"\2\3\3" if kind == 24 else b"\2\3"
    [found] = heard(known, event(19, TABLE_MAP) + event(kind, ROWS + masks + ROW * 1000))
    assert isinstance(found, RowsChanged)
    assert found.changes == [change]


def test_stopping_within_an_event() -> None:
    """Whoever stops between two steps goes on there; rows of a table that is skipped meanwhile do not come."""
    known = reader()
    known.receive_data(event(19, TINY) + tiny_rows(100))
    assert rows_of(islice(known.events(), 2)) == ROWS_AT_ONCE
    assert rows_of(known.events()) == 100 - ROWS_AT_ONCE
    known.receive_data(tiny_rows(100))
    assert rows_of(islice(known.events(), 1)) == ROWS_AT_ONCE
    known.skip("t", "a")
    assert heard(known, tiny_rows(100)) == []
    known.receive_data(event(19, TINY) + tiny_rows(100))
    assert rows_of(islice(known.events(), 2)) == ROWS_AT_ONCE
    known.forget_shapes()
    [unknown] = heard(known, b"")
    assert isinstance(unknown, NotUnderstood)


@pytest.mark.parametrize(
    "data",
    [
        transaction(bare(16, bytes(8)), claimed=100),
        transaction(bare(16, bytes(8)), claimed=20),
        transaction(bare(16, bytes(8)), claimed=UNPACKED_LIMIT + 1),
        transaction(bytes(UNPACKED_LIMIT + 1), claimed=UNPACKED_LIMIT),
        transaction(bare(40, b"\2\1\xff\0" + bare(16, bytes(8)))),
        transaction(bare(16, bytes(8))[:-1]),
        transaction(b"", packed=zstandard.compress(bare(16, bytes(8)))[:-4], claimed=27),
        transaction(b"", packed=in_window(24), claimed=27),
    ],
    ids=[
        "shorter",
        "longer",
        "too long",
        "lies",
        "nested",
        "cut",
        "cut before",
        "a window of 16 MiB",
    ],
)
def test_transactions_that_are_not_understood(data: bytes) -> None:
    """A packed transaction that is not what it says, nested, cut, or takes much memory is not understood."""
    found = heard(reader(), data)
    assert isinstance(found[-1], NotUnderstood)
    small = transaction(b"", packed=in_window(23), claimed=27)
    assert [type(logged) for logged in heard(reader(), small)] == [TransactionEnded]


def test_memory_for_one_event() -> None:
    """Of an event that is very long four megabytes are kept, and it is named by its beginning."""
    known = described()
    body = ROWS + b"\2\xff" + bytes(100 << 20)
    data = memoryview(event(23, body))
    found: list[Event | None] = []
    tracemalloc.start()
    try:
        for at in range(0, len(data), 65_536):
            known.receive_data(data[at : at + 65_536])
            found = list(known.events())
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(found[0], RowsUnreadable)
    assert most < 24 << 20
    assert [type(logged) for logged in heard(known, event(16, bytes(8)))] == [TransactionEnded]


def test_memory_for_descriptions() -> None:
    """Descriptions of tables without end, and rows with every pattern of NULLs, are not remembered without end."""
    known = reader()
    count = COLUMNS_LIMIT
    head = b"\0\0" + b"\1t\0" + b"\1a\0" + b"\xfc" + count.to_bytes(2, "little")
    lengths = b"\xfc" + (2 * count).to_bytes(2, "little")
    image = ROWS + b"\xfc" + count.to_bytes(2, "little") + b"\xff" * (count // 8)

    def describe(number: int) -> None:
        of_table = (number or 1).to_bytes(6, "little") + head + b"\x0f" * count
        metadata = lengths + bytes((number, 3)) * count
        assert heard(known, event(19, of_table + metadata + bytes(count // 8))) == []

    tracemalloc.start()
    try:
        describe(0)
        for nulls in range(20):
            rows = bytes((nulls,)) + bytes(count // 8 - 1) + bytes(2 * count)
            heard(known, event(23, image + rows))
        of_rows = tracemalloc.get_traced_memory()[0]
        for number in range(40):
            describe(number)
        of_tables = tracemalloc.get_traced_memory()[0] - of_rows
    finally:
        tracemalloc.stop()
    assert of_rows < 6 << 20
    assert of_tables < 4 << 20


def test_what_the_server_says_is_short() -> None:
    """A refusal is cut, and a log with a name that no file can have is not understood."""
    [found] = heard(reader(), event(4, bytes(8) + b"x" * 1000))
    assert isinstance(found, NotUnderstood)
    with pytest.raises(BinlogError) as caught:
        heard(reader(), encode_payload(b"\xff\xd4\x04#HY000" + b"x" * 100_000, 1))
    assert len(str(caught.value)) < 1100


@pytest.mark.parametrize(
    ("end", "has_ended"),
    [(b"", False), (event(STOP, b""), True), (event(ROTATE, bytes(8) + b"log.000002"), True)],
    ids=["crashed", "stopped", "gone on"],
)
def test_the_end_of_a_file(end: bytes, has_ended: bool) -> None:
    """A file that ends without a word was left by a crash, in which the server may have lost what it has logged."""
    named = event(ROTATE, bytes(8) + b"log.000002", ARTIFICIAL)
    opened = event(FORMAT_DESCRIPTION, bytes(90))
    found = heard(reader(), named + opened + end + named + opened)
    crashes = [each.reason for each in found if isinstance(each, NotUnderstood)]
    assert [("crashed" in reason) for reason in crashes] == ([] if has_ended else [True])
