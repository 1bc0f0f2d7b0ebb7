"""Any bytes from a server that streams its log: events, or one BinlogError, the same for any cut.

What the events touch is found as well, for a query that reads the table of the seeds.
"""

from __future__ import annotations

import zlib

from mailmapd.changes.layout import PostfixLayout
from mailmapd.changes.readers import Reader, Readers
from mailmapd.changes.selection import Selection
from mailmapd.changes.touched import Touched
from mailmapd.databases.mysql.binlog.events import Event
from mailmapd.databases.mysql.binlog.reader import BinlogError, BinlogReader
from mailmapd.databases.mysql.framing import encode_payload
from mailmapd.provenance.reading import Binding, Part, Reading, Text
from mailmapd.template.mysql_table import MysqlTable
from support.binlog_events import bare, event, transaction

INSERT, UPDATE, PACKED_INSERT = 23, 31, 166
TABLE_MAP = b"\1\0\0\0\0\0" + b"\0\0" + b"\1t\0" + b"\1a\0" + b"\2\x03\x0f" + b"\2\x14\0" + b"\3"
"""The description of table 1, t.a: an INT, a VARCHAR(20)."""
ROWS = b"\1\0\0\0\0\0\0\0"
ROW = b"\0\7\0\0\0\3one"


def readers() -> Readers:
    reading = Reading(
        "t",
        "a",
        frozenset({"id", "name"}),
        ((Binding("name", (Part("u"), Text("@"), Part("d"))),), (Binding("id", (Part("s"),)),)),
    )
    layout = PostfixLayout(MysqlTable.compile("t", b"SELECT '%u' WHERE '%d' = '%s'"))
    found = Readers()
    found.by_table["t", "a"] = [
        Reader("t", layout, reading, {"id": 0, "name": 1}, {"id": "int", "name": "varchar"})
    ]
    found.ordinals["t", "a"] = (0, 1)
    found.widths["t", "a"] = 2
    return found


def packed(data: bytes) -> bytes:
    return b"\x01" + bytes((len(data) & 0xFF,)) + zlib.compress(data)


SEEDS = (
    event(19, TABLE_MAP) + event(INSERT, ROWS + b"\2\xff" + ROW + ROW) + event(16, bytes(8)),
    event(19, TABLE_MAP) + event(UPDATE, ROWS + b"\2\0" + b"\2\xff\xff" + ROW + ROW),
    event(19, TABLE_MAP) + event(PACKED_INSERT, ROWS + b"\2\xff" + packed(ROW * 3)),
    event(2, bytes(8) + b"\1" + bytes(4) + b"t\0DROP TABLE t.a"),
    event(4, (4).to_bytes(8, "little") + b"binlog.000002"),
    event(33, bytes(33)) + event(162, bytes(13)) + event(27, b"binlog.000001"),
    transaction(bare(19, TABLE_MAP) + bare(INSERT, ROWS + b"\2\xff" + ROW) + bare(16, bytes(8))),
    event(40, b"\1\1\x13\2\1\xff\0" + bytes(19)),
    event(26, b"lost") + event(38, b"") + event(39, ROWS),
    encode_payload(b"\xff\xd4\x04#HY000no such file", 1),
    encode_payload(b"\xfe", 1),
)
TOKENS = (ROW, ROWS, TABLE_MAP, b"\xff\xff\xff", b"\xfc", b"\xfd", b"\xfe", b"\x28\xb5\x2f\xfd")


def outcome(data: bytes, size: int) -> tuple[object, ...]:
    known = readers()
    reader = BinlogReader(known.wanted, checksum=False)
    selection = Selection(known)
    touched = Touched()
    events: list[Event] = []
    for at in range(0, len(data), size):
        reader.receive_data(data[at : at + size])
        try:
            found = [event for event in reader.events() if event is not None]
        except BinlogError:
            return ("broken",)
        events += found
        for heard in found:
            selection.add(heard, touched)
    return (reader.file, *events)


def check(data: bytes) -> None:
    whole = outcome(data, max(1, len(data)))
    assert outcome(data, 1 + len(data) % 23) == whole
