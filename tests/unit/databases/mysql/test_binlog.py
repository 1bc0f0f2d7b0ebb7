"""The reader of a server's log, on events written here byte by byte."""

from __future__ import annotations

import pytest
import zstandard

from mailmapd.databases.mysql.binlog.columns import (
    BIT,
    NEWDECIMAL,
    STRING,
    VARCHAR,
    ColumnSize,
    UnknownColumnType,
    column_size,
)
from mailmapd.databases.mysql.binlog.commands import (
    GtidSetError,
    encode_dump,
    encode_dump_gtid,
    encode_gtid_set,
)
from mailmapd.databases.mysql.binlog.events import (
    Change,
    Heartbeat,
    Kind,
    LogRotated,
    NotUnderstood,
    RowsChanged,
    RowsUnreadable,
    StatementLogged,
    TransactionBegun,
    TransactionEnded,
    TransactionPrepared,
)
from mailmapd.databases.mysql.binlog.packets import PacketSplitter, TooLong
from mailmapd.databases.mysql.binlog.reader import BinlogError
from support.binlog_events import (
    STREAM,
    TABLE,
    event,
    format_description,
    image,
    mysql_gtid,
    packet,
    query,
    reader,
    rows,
    table_map,
)

EVENTS = [
    LogRotated("binlog.000002", 4),
    TransactionBegun("0-9-5", 1000),
    RowsChanged(
        "m",
        "alias",
        Kind.INSERT,
        [Change(None, (b"a@example.com", b"x")), Change(None, (None, None))],
        1000,
    ),
    RowsChanged("m", "alias", Kind.UPDATE, [Change((b"a", b"x"), (b"b", b"x"))], 1000),
    RowsChanged("m", "alias", Kind.DELETE, [Change((b"gone", b"y"), None)], 1000),
    TransactionEnded(1000),
    StatementLogged("m", "TRUNCATE alias", 1000),
    Heartbeat(1000),
]


@pytest.mark.parametrize("step", [1, 3, 50, 10_000])
def test_stream(step: int) -> None:
    """A stream gives the same events however it is cut into pieces."""
    codec = reader()
    found = []
    for start in range(0, len(STREAM), step):
        found += codec.receive_data(STREAM[start : start + step])
    assert found == EVENTS
    assert codec.file == "binlog.000002"


def test_checksums_are_followed() -> None:
    """Whether events end in a checksum is what the last format description said."""
    codec = reader()
    codec.receive_data(packet(format_description(checksum=False)))
    assert codec.receive_data(packet(query(b"BEGIN"))) == [
        StatementLogged(
            "m", "BEGIN\xcc\xcc\xcc\xcc".encode("latin-1").decode("utf-8", "replace"), 1000
        )
    ]
    codec.receive_data(packet(format_description(checksum=True)))
    assert codec.receive_data(packet(query(b"BEGIN"))) == [StatementLogged("m", "BEGIN", 1000)]


def test_compressed_transactions() -> None:
    """MySQL's packed transactions are read, their events having the position of the whole."""
    inner = b"".join(
        event(kind, body, checksum=False)
        for kind, body in (
            (2, query(b"BEGIN")[19:-4]),
            (19, table_map()[19:-4]),
            (23, rows(23, image(b"a", 1, b"x"))[19:-4]),
            (16, b"\0" * 8),
        )
    )
    packed = zstandard.compress(inner)
    fields = b"\2\1\0" + b"\1\3\xfc" + len(packed).to_bytes(2, "little") + b"\0"
    found = reader().receive_data(packet(event(40, fields + packed, 2000)))
    assert found == [
        StatementLogged("m", "BEGIN", 2000),
        RowsChanged("m", "alias", Kind.INSERT, [Change(None, (b"a", b"x"))], 2000),
        TransactionEnded(2000),
    ]


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (event(40, b"\2\1\0\1\1\5\0hello"), "cannot be unpacked"),
        (event(40, b"\2\1\7\1\1\5\0hello"), "broken event"),
        (event(200, b"new"), "unknown type 200"),
        (event(26, b"\1\0"), "lost changes"),
        (event(42, b"tagged"), "tagged GTID"),
        (event(162, b"\1"), "broken event"),
        (event(39, b"\7\0\0\0\0\0"), "partial JSON"),
        (rows(23, image(b"a", 1, b"x")), "not described"),
    ],
)
def test_nothing_in_silence(one: bytes, reason: str) -> None:
    """What is not understood is said, and the stream goes on."""
    codec = reader()
    [found] = codec.receive_data(packet(one))
    assert isinstance(found, NotUnderstood)
    assert reason in found.reason
    assert codec.receive_data(packet(query(b"BEGIN"))) == [StatementLogged("m", "BEGIN", 1000)]


@pytest.mark.parametrize(
    "broken",
    [
        rows(23, image(b"a", 1, b"x")[:-1]),
        rows(23, image(b"a", 1, b"x") + b"\0"),
        rows(166, b"no zlib", compressed=False),
        event(23, TABLE.to_bytes(6, "little") + b"\1\0\3\0never ends"),
        event(23, TABLE.to_bytes(6, "little") + b"\1\0\xfe" + b"\xff" * 8),
        event(39, b"\7\0\0\0\0\0"),
    ],
)
def test_unreadable_rows(broken: bytes) -> None:
    """Rows that cannot be read name their table."""
    codec = reader()
    codec.receive_data(packet(table_map()))
    [found] = codec.receive_data(packet(broken))
    assert isinstance(found, RowsUnreadable)
    assert (found.schema, found.table) == ("m", "alias")


def test_other_tables() -> None:
    """Rows of tables that nobody reads are passed over, and so are those that are to be skipped."""
    codec = reader()
    codec.receive_data(packet(table_map(table=b"other")))
    assert codec.receive_data(packet(rows(23, b"whatever"))) == []
    codec.receive_data(packet(table_map()))
    codec.skip("m", "alias")
    assert codec.receive_data(packet(rows(23, image(b"a", 1, b"x")))) == []
    codec.receive_data(packet(table_map()))
    assert len(codec.receive_data(packet(rows(23, image(b"a", 1, b"x"))))) == 1


def test_identifiers_and_phases() -> None:
    """MySQL's identifiers and prepared transactions are known."""
    codec = reader()
    found = codec.receive_data(packet(mysql_gtid()) + packet(event(38, b"")))
    assert found == [
        TransactionBegun("00010203-0405-0607-0809-0a0b0c0d0e0f:5", 1000),
        TransactionPrepared(1000),
    ]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x09\0\0\1\xff\xd4\x04#HY000gone"[:13], "1236"),
        (b"\x01\0\0\1\xfe", "ended the stream"),
        (b"\x01\0\0\1\x05", "something else"),
        (b"\0\0\0\1", "no reason"),
    ],
)
def test_the_end(data: bytes, text: str) -> None:
    """A refusal, the end of the stream and nonsense end the reading with a reason."""
    with pytest.raises(BinlogError, match=text):
        reader().receive_data(data)


def test_limit() -> None:
    """A payload beyond the limit is refused as soon as a length says so, also one of several packets."""
    splitter = PacketSplitter(0xFFFFFF + 10)
    splitter.receive_data(b"\xff\xff\xff\0" + b"\0" * 0xFFFFFF + b"\x0b\0\0\1")
    with pytest.raises(TooLong, match=str(0xFFFFFF + 10)):
        list(splitter.payloads())


@pytest.mark.parametrize(
    ("kind", "metadata", "size"),
    [
        (VARCHAR, 255, ColumnSize(0, 1)),
        (VARCHAR, 256, ColumnSize(0, 2)),
        (STRING, 0xFE << 8 | 40, ColumnSize(0, 1)),
        (STRING, 0xEE << 8 | 0x20, ColumnSize(0, 2)),
        (STRING, 247 << 8 | 1, ColumnSize(1, 0)),
        (STRING, 248 << 8 | 8, ColumnSize(8, 0)),
        (NEWDECIMAL, 12 << 8 | 4, ColumnSize(6, 0)),
        (NEWDECIMAL, 65 << 8 | 30, ColumnSize(30, 0)),
        (BIT, 3 << 8 | 1, ColumnSize(2, 0)),
        (BIT, 1, ColumnSize(1, 0)),
    ],
)
def test_sizes(kind: int, metadata: int, size: ColumnSize) -> None:
    """Sizes that depend on the metadata are those of the servers' own layout."""
    assert column_size(kind, metadata) == size


def test_unknown_type() -> None:
    """A type of the future is refused: where the next column begins is not known."""
    with pytest.raises(UnknownColumnType, match="200"):
        column_size(200, 0)


def test_commands() -> None:
    """The dump commands have their fields where the servers look for them."""
    assert encode_dump("b.1", 4, 7) == b"\x0e\0\0\0\x12\x04\0\0\0\0\0\x07\0\0\0b.1"
    executed = "00010203-0405-0607-0809-0a0b0c0d0e0f:1-3:7,\n10010203-0405-0607-0809-0a0b0c0d0e0f:2"
    packed = encode_gtid_set(executed)
    assert packed[:8] == b"\2" + b"\0" * 7
    assert packed[8:24] == bytes(range(16))
    assert packed[24:64] == b"".join(n.to_bytes(8, "little") for n in (2, 1, 4, 7, 8))
    assert encode_dump_gtid("", 7)[4:] == (
        b"\x1e\x04\0\x07\0\0\0\0\0\0\0\x04" + b"\0" * 7 + b"\x08\0\0\0" + b"\0" * 8
    )
    with pytest.raises(GtidSetError, match="not understood"):
        encode_gtid_set("00010203-0405-0607-0809-0a0b0c0d0e0f:tag:1")
