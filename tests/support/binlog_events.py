"""Events of a binary log, as bytes."""

from __future__ import annotations

import struct

import zstandard

from mailmapd.databases.mysql.framing import encode_payload


def bare(kind: int, body: bytes, flags: int = 0) -> bytes:
    """Return an event as it stands in a log."""
    return struct.pack("<IBIIIH", 0, kind, 1, 19 + len(body), 100, flags) + body


def event(kind: int, body: bytes, flags: int = 0) -> bytes:
    """Return an event as it is sent."""
    return encode_payload(b"\0" + bare(kind, body, flags), 1)


def transaction(events: bytes, *, claimed: int | None = None, packed: bytes | None = None) -> bytes:
    """Return a packed transaction as it is sent; it says, rightly or not, how long its events are."""
    if packed is None:
        packed = zstandard.compress(events)
    fields = {1: len(packed), 2: 0, 3: len(events) if claimed is None else claimed}
    head = b"".join(
        [bytes((number, 9, 0xFE)) + value.to_bytes(8, "little") for number, value in fields.items()]
    )
    return event(40, head + b"\0" + packed)
