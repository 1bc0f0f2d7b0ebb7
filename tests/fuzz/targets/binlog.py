"""Any bytes from a server that streams its log: events, or one BinlogError, the same for any cut."""

from __future__ import annotations

import struct
import zlib

from mailmapd.databases.mysql.binlog.events import Event
from mailmapd.databases.mysql.binlog.reader import BinlogError, BinlogReader
from mailmapd.databases.mysql.framing import encode_payload

INSERT, UPDATE, PACKED_INSERT = 23, 31, 166
TABLE_MAP = b"\1\0\0\0\0\0" + b"\0\0" + b"\1t\0" + b"\1a\0" + b"\2\x03\x0f" + b"\2\x14\0" + b"\3"
"""The description of table 1, t.a: an INT, a VARCHAR(20)."""
ROWS = b"\1\0\0\0\0\0\0\0"
ROW = b"\0\7\0\0\0\3one"


def event(kind: int, body: bytes) -> bytes:
    head = struct.pack("<IBIIIH", 0, kind, 1, 19 + len(body), 100, 0)
    return encode_payload(b"\0" + head + body, 1)


def packed(data: bytes) -> bytes:
    return b"\x01" + bytes((len(data) & 0xFF,)) + zlib.compress(data)


SEEDS = (
    event(19, TABLE_MAP) + event(INSERT, ROWS + b"\2\xff" + ROW + ROW) + event(16, bytes(8)),
    event(19, TABLE_MAP) + event(UPDATE, ROWS + b"\2\0" + b"\2\xff\xff" + ROW + ROW),
    event(19, TABLE_MAP) + event(PACKED_INSERT, ROWS + b"\2\xff" + packed(ROW * 3)),
    event(2, bytes(8) + b"\1" + bytes(4) + b"t\0DROP TABLE t.a"),
    event(4, (4).to_bytes(8, "little") + b"binlog.000002"),
    event(33, bytes(33)) + event(162, bytes(13)) + event(27, b"binlog.000001"),
    event(40, b"\1\1\x13\2\1\xff\0" + bytes(19)),
    event(26, b"lost") + event(38, b"") + event(39, ROWS),
    encode_payload(b"\xff\xd4\x04#HY000no such file", 1),
    encode_payload(b"\xfe", 1),
)
TOKENS = (ROW, ROWS, TABLE_MAP, b"\xff\xff\xff", b"\xfc", b"\xfd", b"\xfe", b"\x28\xb5\x2f\xfd")


def outcome(data: bytes, size: int) -> tuple[object, ...]:
    reader = BinlogReader(
        lambda _schema, _table, count: tuple(range(min(count, 2))), checksum=False
    )
    events: list[Event] = []
    for at in range(0, len(data), size):
        reader.receive_data(data[at : at + size])
        try:
            events += [event for event in reader.events() if event is not None]
        except BinlogError:
            return ("broken",)
    return (reader.file, *events)


def check(data: bytes) -> None:
    whole = outcome(data, max(1, len(data)))
    assert outcome(data, 1 + len(data) % 23) == whole
