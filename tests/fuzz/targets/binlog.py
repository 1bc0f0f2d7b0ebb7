"""Any bytes as a server's log: events, or one BinlogError, the same for any cut."""

from __future__ import annotations

from mailmapd.databases.mysql.binlog.events import Event
from mailmapd.databases.mysql.binlog.reader import BinlogError
from support.binlog_events import (
    STREAM,
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

SEEDS = (
    STREAM,
    packet(table_map()) + packet(rows(25, image(b"a", 1, b"x"))[:-6]),
    packet(rows(23, b"")) + packet(query(b"BEGIN")),
    packet(mysql_gtid()) + packet(event(40, b"\2\1\0\1\1\5\0hello")),
    packet(format_description(checksum=False)) + packet(event(39, b"\7\0\0\0\0\0")),
    b"\x09\0\0\1\xff\xd4\x04#HY000gone",
    b"\x01\0\0\1\xfe",
)
TOKENS = (
    b"\xff\xff\xff",
    b"\0\0\0",
    b"\xfe",
    b"\xfc",
    b"\x07\0\0\0\0\0",
    b"\x13",
    b"\x17",
    b"\x28",
)


def outcome(data: bytes, step: int) -> tuple[list[Event], str]:
    """Return the events of a stream that comes in pieces, and why it ended."""
    codec = reader()
    events: list[Event] = []
    try:
        for start in range(0, len(data), step):
            events += codec.receive_data(data[start : start + step])
    except BinlogError as error:
        return events, str(error)
    return events, ""


def check(data: bytes) -> None:
    whole, reason = outcome(data, max(len(data), 1))
    for step in (1, 7):
        pieces, why = outcome(data, step)
        assert why == reason
        # An error takes along what came in the same piece.
        assert pieces[: len(whole)] == whole if reason else pieces == whole
