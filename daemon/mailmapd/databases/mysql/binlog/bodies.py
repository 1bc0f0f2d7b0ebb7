"""Bodies of events: names and numbers as they stand there, and MySQL's identifiers of transactions."""

from __future__ import annotations

import struct


def read_mysql_gtid(body: bytes) -> str:
    """Return the identifier in a GTID event: flags (1), the server's UUID (16), number (8)."""
    sid = body[1:17].hex()
    (number,) = struct.unpack_from("<Q", body, 17)
    return f"{sid[:8]}-{sid[8:12]}-{sid[12:16]}-{sid[16:20]}-{sid[20:]}:{number}"


def read_committed(body: bytes) -> int:
    """Return when the transaction of a GTID event was committed first, in microseconds, or 0.

    Behind the number: 2, two logical times (16), when it was committed on this server (7), whose highest bit says
    that its first commit follows (7).
    """
    if len(body) < 49 or body[25] != 2:
        return 0
    here = int.from_bytes(body[42:49], "little")
    if not here >> 55:
        return here
    return int.from_bytes(body[49:56], "little")


def read_name(data: bytes, at: int) -> tuple[str, int]:
    """Return a name behind its length, and where it and the NUL after it end."""
    size = data[at]
    name = data[at + 1 : at + 1 + size]
    if len(name) < size:
        raise ValueError
    return name.decode(), at + size + 2


def read_length(data: bytes, at: int) -> tuple[int, int]:
    """Return a length-encoded integer and where it ends."""
    first = data[at]
    if first < 251:
        return first, at + 1
    size = {252: 2, 253: 3, 254: 8}[first]
    return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size
