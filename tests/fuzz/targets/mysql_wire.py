"""Any bytes from a database server in reply to a query: rows, an error, or one WireError, the same for any cut."""

from __future__ import annotations

from mailmapd.databases.mysql.framing import WireError, encode_payload
from mailmapd.databases.mysql.wire import ReplyReader

COLUMN = b"\x03def\x04mail\x01t\x01t\x01a\x01a\x0c\x2d\0\0\1\0\0\xfd\0\0\0\0\0"
EOF = b"\xfe\0\0\2\0"
MORE = b"\xfe\0\0\x0a\0"
OK = b"\0\0\0\2\0\0\0"


def reply(*payloads: bytes) -> bytes:
    return b"".join([encode_payload(payload, number) for number, payload in enumerate(payloads, 1)])


SEEDS = (
    reply(OK),
    reply(b"\x01", COLUMN, EOF, b"\x01x", b"\xfb", EOF),
    reply(b"\x02", COLUMN, COLUMN, EOF, b"\x01x\xfc\x01\x00y", EOF),
    reply(b"\x01", COLUMN, EOF, b"\x01x", MORE, OK),
    reply(b"\xff\x7a\x04#42S02no such table"),
    reply(b"\xfb/etc/passwd"),
    b"\xff\xff\xff\x01" + b"x" * 100,
)
TOKENS = (EOF, MORE, OK, COLUMN, b"\xfb", b"\xfc", b"\xfd", b"\xfe", b"\xff", b"\xff\xff\xff")
LIMIT = 65_536


def outcome(data: bytes, size: int) -> tuple[object, ...]:
    reader = ReplyReader(max_result=LIMIT)
    for at in range(0, len(data), size):
        try:
            complete = reader.receive_data(data[at : at + size])
        except WireError:
            return ("broken",)
        if complete:
            if data[at + size :]:
                return (
                    "broken",
                )  # what follows a whole reply breaks it, in the same piece or the next
            return (reader.columns, tuple(reader.rows), reader.error, reader.result_sets)
    return ("unfinished", len(reader.rows))


def check(data: bytes) -> None:
    whole = outcome(data, max(1, len(data)))
    assert outcome(data, 1 + len(data) % 23) == whole
