"""What a server that streams its log may send, and ask us to unpack, is bounded; what is passed over is named."""

from __future__ import annotations

import zlib

import pytest

from fuzz.targets.binlog import PACKED_INSERT, ROW, ROWS, TABLE_MAP, event, packed
from mailmapd.databases.mysql.binlog.commands import PlaceError, encode_dump, encode_dump_gtid
from mailmapd.databases.mysql.binlog.events import NotUnderstood, RowsChanged, RowsUnreadable
from mailmapd.databases.mysql.binlog.reader import (
    EVENT_LIMIT,
    ROWS_LIMIT,
    UNPACKED_LIMIT,
    BinlogError,
    BinlogReader,
)

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


def reader() -> BinlogReader:
    return BinlogReader(lambda _schema, _table, _count: (0,), checksum=False)


def described() -> BinlogReader:
    new = reader()
    assert new.receive_data(event(19, TABLE_MAP)) == []
    return new


def test_rows_up_to_the_limit() -> None:
    """Rows are read up to a size, packed or not, and beyond it their table is named."""
    for kind, wrap in ((23, bytes), (PACKED_INSERT, packed)):
        many = ROWS_LIMIT // len(ROW)
        [read] = described().receive_data(event(kind, ROWS + b"\2\xff" + wrap(ROW * many)))
        assert isinstance(read, RowsChanged)
        assert len(read.changes) == many
        [passed] = described().receive_data(event(kind, ROWS + b"\2\xff" + wrap(ROW * (many + 1))))
        assert isinstance(passed, RowsUnreadable)
        assert (passed.schema, passed.table) == ("t", "a")
        assert str(ROWS_LIMIT) in passed.reason


@pytest.mark.parametrize("image", [b"\2\0" + ROW, b"\2\0", b"\2\3", b"\3\7" + ROW])
def test_rows_that_say_nothing(image: bytes) -> None:
    """Rows without a column, or with other ones, end, and are not passed over: their table is named."""
    [found] = described().receive_data(event(23, ROWS + image))
    assert isinstance(found, RowsUnreadable)
    assert (found.schema, found.table) == ("t", "a")


def test_what_is_packed_and_endless() -> None:
    """A statement that becomes very long is not understood, and nobody has to hold it."""
    sql = b"\x04" + bytes(4) + zlib.compress(bytes(UNPACKED_LIMIT + 1), 9)
    [found] = reader().receive_data(event(165, bytes(13) + b"\0" + sql))
    assert isinstance(found, NotUnderstood)


def test_a_table_that_cannot_be() -> None:
    """A map with more columns than a table can have leaves no older one in its place."""
    known = described()
    wide = TABLE_MAP[:14] + b"\xfd\0\0\x10" + b"\3" * 0x100000
    assert [type(found) for found in known.receive_data(event(19, wide))] == [NotUnderstood]
    [found] = known.receive_data(event(23, ROWS + b"\2\xff" + ROW))
    assert isinstance(found, NotUnderstood)


def test_an_event_without_end() -> None:
    """A stream ends with the packet that makes its event too long, before that packet is here."""
    stream = reader()
    size = 0xFFFFFF
    part = b"\xff\xff\xff\0" + bytes(size)
    for _ in range(EVENT_LIMIT // size):
        assert stream.receive_data(part) == []
    with pytest.raises(BinlogError, match="a packet of more than"):
        stream.receive_data(part[:4])


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
