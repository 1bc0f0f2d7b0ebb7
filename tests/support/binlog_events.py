"""A log as a server would send it, packet by packet, for tests of its reader."""

from __future__ import annotations

import struct
import zlib

from mailmapd.databases.mysql.binlog.reader import BinlogReader

VARCHAR, LONG, BLOB = 15, 3, 252
TABLE = 7


def packet(event: bytes, sequence: int = 0) -> bytes:
    """Return one packet with an event."""
    payload = b"\0" + event
    return len(payload).to_bytes(3, "little") + bytes([sequence]) + payload


def event(kind: int, body: bytes, position: int = 1000, *, checksum: bool = True) -> bytes:
    """Return an event of server 9."""
    tail = b"\xcc" * 4 if checksum else b""
    size = 19 + len(body) + len(tail)
    return struct.pack("<IBIIIH", 1, kind, 9, size, position, 0) + body + tail


def format_description(*, checksum: bool) -> bytes:
    """Return the event that a stream begins with; its checksum's place is always there."""
    return event(15, b"\4\0" + b"10.11.0".ljust(50, b"\0") + b"\0" * 50 + bytes([checksum]))


def table_map(schema: bytes = b"m", table: bytes = b"alias", number: int = TABLE) -> bytes:
    """Return the map of a table with a VARCHAR(255), an INT and a TEXT."""
    names = bytes([len(schema)]) + schema + b"\0" + bytes([len(table)]) + table + b"\0"
    columns = bytes([3, VARCHAR, LONG, BLOB])
    metadata = bytes([3]) + struct.pack("<H", 255) + bytes([2])
    return event(19, number.to_bytes(6, "little") + b"\1\0" + names + columns + metadata + b"\0")


def image(address: bytes | None, number: int, goto: bytes | None) -> bytes:
    """Return a whole row of that table."""
    nulls = (address is None) | (goto is None) << 2
    found = bytes([nulls])
    if address is not None:
        found += bytes([len(address)]) + address
    found += struct.pack("<i", number)
    if goto is not None:
        found += struct.pack("<H", len(goto)) + goto
    return found


def rows(kind: int, images: bytes, number: int = TABLE, *, compressed: bool = False) -> bytes:
    """Return a rows event: 23 inserts, 24 updates, 25 deletes; 166 to 168 compressed."""
    present = b"\x07\x07" if kind in {24, 167} else b"\x07"
    if compressed:
        images = bytes([0x81, len(images) % 256]) + zlib.compress(images)
    return event(kind, number.to_bytes(6, "little") + b"\1\0" + b"\3" + present + images)


def query(sql: bytes, schema: bytes = b"m") -> bytes:
    """Return a statement."""
    return event(2, struct.pack("<IIBHH", 1, 0, len(schema), 0, 0) + schema + b"\0" + sql)


def rotate(file: bytes = b"binlog.000002", position: int = 4) -> bytes:
    """Return the event that names the next file."""
    return event(4, struct.pack("<Q", position) + file)


def mariadb_gtid(sequence: int = 5) -> bytes:
    """Return MariaDB's beginning of a transaction, in domain 0."""
    return event(162, struct.pack("<QIB", sequence, 0, 0))


def mysql_gtid(number: int = 5) -> bytes:
    """Return MySQL's beginning of a transaction."""
    return event(33, b"\1" + bytes(range(16)) + struct.pack("<Q", number))


STREAM = b"".join(
    packet(one)
    for one in (
        rotate(),
        format_description(checksum=True),
        mariadb_gtid(),
        table_map(),
        rows(23, image(b"a@example.com", 1, b"x") + image(None, 2, None)),
        rows(24, image(b"a", 1, b"x") + image(b"b", 1, b"x")),
        rows(168, image(b"gone", 3, b"y"), compressed=True),
        event(16, b"\0" * 8),
        query(b"TRUNCATE alias"),
        event(27, b"binlog.000002"),
    )
)


def reader() -> BinlogReader:
    """Return a reader of the first and the last column of m.alias."""
    return BinlogReader(
        lambda schema, table, _: (0, 2) if (schema, table) == ("m", "alias") else None,
        checksum=True,
    )
