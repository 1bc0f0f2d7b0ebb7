"""Packing: rows and statements that MariaDB compresses by zlib, transactions that MySQL does by Zstandard."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import zstandard

from mailmapd.databases.mysql.binlog.bodies import read_length

UNPACKED_LIMIT = 4 << 20
"""The most that a compressed transaction may become, in bytes; with more it is not understood."""

WINDOW_LIMIT = 8 << 20
"""The memory that unpacking may take, in bytes: what Zstandard's levels up to 19 need (MySQL's default is 3)."""

_UNPACKED_STEP = 64 << 10  # bytes that are unpacked at one go
_PAYLOAD_SIZE, _PAYLOAD_ALGORITHM, _PAYLOAD_UNPACKED = 1, 2, 3
_PAYLOAD_ZSTD, _PAYLOAD_PLAIN = 0, 255


def inflate(data: bytes, limit: int) -> tuple[bytes, bool]:
    """Return what MariaDB compressed, up to `limit` bytes, and whether that is all.

    A byte says how many bytes of a length follow, then come those, and zlib's data.
    """
    unpacker = zlib.decompressobj()
    return unpacker.decompress(data[1 + (data[0] & 7) :], limit), unpacker.eof


def unpacked(data: bytes) -> Iterator[bytes]:
    """Yield the bytes of the events in a transaction's payload, some at a time.

    Fields (type, length, value) come before it; type 0 ends them.
    """
    at, size, whole, algorithm = 0, -1, -1, _PAYLOAD_PLAIN
    while True:
        field, at = read_length(data, at)
        if field == 0:
            break
        length, at = read_length(data, at)
        value, _ = read_length(data, at)
        at += length
        if field == _PAYLOAD_SIZE:
            size = value
        elif field == _PAYLOAD_ALGORITHM:
            algorithm = value
        elif field == _PAYLOAD_UNPACKED:
            whole = value
    packed = data[at : at + size] if size >= 0 else data[at:]
    if len(packed) < size:
        raise ValueError
    if algorithm == _PAYLOAD_PLAIN:
        yield packed
        return
    if algorithm != _PAYLOAD_ZSTD or whole > UNPACKED_LIMIT:
        raise ValueError
    reader = zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT).stream_reader(packed)
    left = UNPACKED_LIMIT if whole < 0 else whole
    while piece := reader.read(_UNPACKED_STEP):
        left -= len(piece)
        if left < 0:
            raise ValueError
        yield piece
    if left and whole >= 0:
        raise ValueError
