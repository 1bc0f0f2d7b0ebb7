"""The cache file: what is kept of caches from one start of the daemon to the next.

    file      header, kept, for each table: table, entries …, then end
    header    "mailmapd cache" and a line feed, version (1 byte), when it was written (float, seconds since the epoch)
    block     kind (1 byte), length of the body (4 bytes), body
    kept      kind "K": JSON of what those who know of changes go on from, each with the names of its `tables`
    table     kind "T": digest of the table's definition (32 bytes), its name (UTF-8)
    entries   kind "E": records of the table before it, at most `BLOCK_LIMIT` bytes
    record    kind of value (1 byte), fresh until (float, seconds since the epoch), length of the key (4 bytes), key
              0  the definite absence of a row: nothing
              1  a finished value: its length (4 bytes) and bytes
              2  values: their number (4 bytes), then each with its length (4 bytes)
    end       kind "Z": BLAKE2b (16 bytes) of everything before this block; nothing follows

Numbers are little-endian, floats are IEEE 754 doubles. `VERSION` changes when this layout does, or
what the values mean. A reader takes nothing from a file before it has checked all of it; what does
not fit is a CacheFileError, and nothing else comes of it.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from mailmapd.cache.table_cache import ABSENCE, Absence, Payload
from mailmapd.errors import MailmapdError

MAGIC = b"mailmapd cache\n"
VERSION = 2
BLOCK_LIMIT = 1024 * 1024  # bytes of a block's body
DIGEST_SIZE = 32

_HEADER = struct.Struct(f"<{len(MAGIC)}sBd")
_BLOCK = struct.Struct("<cI")
_RECORD = struct.Struct("<BdI")
_LENGTH = struct.Struct("<I")
_HASH_SIZE = 16
_ABSENT, _VALUE, _VALUES = range(3)
_SMALLEST_VALUE = _LENGTH.size


class CacheFileError(MailmapdError):
    """The file is not a cache file of this version, is damaged, or ends early; the text says which."""


class CacheRecord(NamedTuple):
    """One cached answer; `until` is when it stops being fresh, in seconds since the epoch."""

    key: bytes
    found: Payload | Absence
    until: float


class Kept(NamedTuple):
    """Places in logs and in the fleet's stream, by the name of who goes on from there."""

    sources: Mapping[str, Any]


class TableHeader(NamedTuple):
    """The table that the records after it belong to."""

    digest: bytes
    name: str


def encode_record(record: CacheRecord) -> bytes:
    """Return the bytes of a record."""
    key, found, until = record
    if isinstance(found, bytes):
        return b"".join(
            (_RECORD.pack(_VALUE, until, len(key)), key, _LENGTH.pack(len(found)), found)
        )
    if found is ABSENCE:
        return _RECORD.pack(_ABSENT, until, len(key)) + key
    values = [part for value in found for part in (_LENGTH.pack(len(value)), value)]
    return b"".join(
        (_RECORD.pack(_VALUES, until, len(key)), key, _LENGTH.pack(len(found)), *values)
    )


def decode_records(body: bytes) -> Iterator[CacheRecord]:
    """Yield the records of a block. Raises CacheFileError, possibly after some of them."""
    position = 0
    try:
        while position < len(body):
            kind, until, length = _RECORD.unpack_from(body, position)
            position += _RECORD.size
            key = _take(body, position, length)
            position += length
            found: Payload | Absence = ABSENCE
            if kind == _VALUE:
                (length,) = _LENGTH.unpack_from(body, position)
                found = _take(body, position + _LENGTH.size, length)
                position += _LENGTH.size + length
            elif kind == _VALUES:
                found, position = _take_values(body, position)
            elif kind != _ABSENT:
                raise CacheFileError(f"holds a value of the unknown kind {kind}")
            if not math.isfinite(until):
                raise CacheFileError("holds a time that is no number")
            yield CacheRecord(key, found, until)
    except struct.error:
        raise CacheFileError("ends in the middle of an entry") from None


def _take(body: bytes, position: int, length: int) -> bytes:
    if length > len(body) - position:
        raise CacheFileError("ends in the middle of an entry")
    return body[position : position + length]


def _take_values(body: bytes, position: int) -> tuple[tuple[bytes, ...], int]:
    (number,) = _LENGTH.unpack_from(body, position)
    position += _LENGTH.size
    if number * _SMALLEST_VALUE > len(body) - position:
        raise CacheFileError("ends in the middle of an entry")
    values = []
    for _ in range(number):
        (length,) = _LENGTH.unpack_from(body, position)
        position += _LENGTH.size
        values.append(_take(body, position, length))
        position += length
    return tuple(values), position


class CacheFileWriter:
    """Writes a cache file to a stream: the header at once, then `table` and `records` in turns, then `finish`."""

    def __init__(self, stream: BinaryIO, written_at: float) -> None:
        self._stream = stream
        self._hash = hashlib.blake2b(digest_size=_HASH_SIZE)
        self._write(_HEADER.pack(MAGIC, VERSION, written_at))

    def kept(self, kept: Kept) -> None:
        """Write what the followers go on from, before all tables; all of it or nothing."""
        body = json.dumps(kept.sources).encode("ascii")
        if len(body) <= BLOCK_LIMIT:
            self._write_block(b"K", body)

    def table(self, header: TableHeader) -> None:
        """Begin the records of a table."""
        self._write_block(b"T", header.digest + header.name.encode("utf-8", "surrogateescape"))

    def records(self, records: Iterable[bytes]) -> None:
        """Write encoded records, in as many blocks as they need; one that is longer than a block is left out."""
        block: list[bytes] = []
        size = 0
        for record in records:
            if len(record) > BLOCK_LIMIT:
                continue
            if size + len(record) > BLOCK_LIMIT:
                self._write_block(b"E", b"".join(block))
                block, size = [], 0
            block.append(record)
            size += len(record)
        if block:
            self._write_block(b"E", b"".join(block))

    def finish(self) -> None:
        """Write the end."""
        self._stream.write(_BLOCK.pack(b"Z", _HASH_SIZE) + self._hash.digest())

    def _write_block(self, kind: bytes, body: bytes) -> None:
        self._write(_BLOCK.pack(kind, len(body)) + body)

    def _write(self, data: bytes) -> None:
        self._hash.update(data)
        self._stream.write(data)


def check(stream: BinaryIO) -> float:
    """Read a file from its beginning to its end; return when it was written.

    Raises CacheFileError for anything that is not right.
    """
    header = stream.read(_HEADER.size)
    if not header.startswith(MAGIC):
        raise CacheFileError("is no cache file of mailmapd")
    if len(header) < _HEADER.size:
        raise CacheFileError("ends early")
    _, version, written_at = _HEADER.unpack(header)
    if version != VERSION:
        raise CacheFileError(
            f"has format {version}, written by another version of mailmapd (this one reads {VERSION})"
        )
    found = hashlib.blake2b(header, digest_size=_HASH_SIZE)
    while True:
        frame = stream.read(_BLOCK.size)
        if len(frame) < _BLOCK.size:
            raise CacheFileError("ends early")
        kind, length = _BLOCK.unpack(frame)
        if kind == b"Z":
            break
        if kind not in (b"K", b"T", b"E") or length > BLOCK_LIMIT:
            raise CacheFileError("is damaged")
        body = stream.read(length)
        if len(body) < length:
            raise CacheFileError("ends early")
        found.update(frame + body)
    if (
        length != _HASH_SIZE
        or stream.read(_HASH_SIZE + 1) != found.digest()
        or not math.isfinite(written_at)
    ):
        raise CacheFileError("is damaged (its checksum is wrong)")
    return float(written_at)


def blocks(stream: BinaryIO) -> Iterator[Kept | TableHeader | bytes]:
    """Yield what is kept, table headers and bodies of records of a file that `check` has found right."""
    stream.seek(_HEADER.size)
    while True:
        kind, length = _BLOCK.unpack(stream.read(_BLOCK.size))
        if kind == b"Z":
            return
        body = stream.read(length)
        if kind == b"E":
            yield body
        elif kind == b"K":
            yield _decode_kept(body)
        elif length >= DIGEST_SIZE:
            yield TableHeader(
                body[:DIGEST_SIZE], body[DIGEST_SIZE:].decode("utf-8", "surrogateescape")
            )
        else:
            raise CacheFileError("holds a table without a digest")


def _decode_kept(body: bytes) -> Kept:
    try:
        sources = json.loads(body)
    except ValueError:
        raise CacheFileError("holds no places in logs where it should") from None
    if not isinstance(sources, dict):
        raise CacheFileError("holds no places in logs where it should")
    return Kept(sources)
