"""Shared answers: what a host knows of a key, with all that another one must know to believe it, as bytes.

    version (1 byte), when it was asked for (seconds since the epoch) and for how long it is good (doubles),
    the last message that its host had read then (two numbers of 8 bytes), digests of the server's history and of the
    marks that stood there then (8 bytes each), number of the database's servers (1 byte), a digest of each (8 bytes),
    kind: 0 an absence · 1 a finished value: its bytes · 2 values: each with its length (4 bytes)

Numbers are little-endian. `VERSION` changes when this layout does, or what the values mean.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from mailmapd.cache.table_cache import ABSENCE, Absence, Payload

VERSION = 1
MOST_BYTES = 16 * 1024  # of a sealed answer: what is longer is not shared
_HEAD = struct.Struct("<BddQQ8s8sB")
_DIGEST = 8  # bytes
_LENGTH = struct.Struct("<I")
_ABSENT, _VALUE, _VALUES = range(3)
_MOST_SERVERS = 255


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a host when it asked: `last_id` is the last message it had read, of the server's `history`.

    `servers` are digests of the database's servers, of which one has answered.
    """

    last_id: tuple[int, int]
    history: str
    servers: frozenset[str]


@dataclass(frozen=True, slots=True)
class SharedAnswer:
    """A row or an absence; see the module. `history` and `marks` are digests."""

    found: Payload | Absence
    at: float
    lifetime: float
    last_id: tuple[int, int]
    history: bytes
    marks: bytes
    servers: frozenset[str]

    @classmethod
    def of(
        cls, found: Payload | Absence, at: float, lifetime: float, place: Place, marks: bytes
    ) -> SharedAnswer:
        """Return what a host has found at a place."""
        history = digest_of([place.history.encode()])
        return cls(found, at, lifetime, place.last_id, history, marks, place.servers)

    def is_of(self, history: str) -> bool:
        """Return whether it was found while a server with this history carried the stream."""
        return self.history == digest_of([history.encode()])

    def encode(self) -> bytes | None:
        """Return the bytes, or None when the database has more servers than anybody."""
        servers = sorted(bytes.fromhex(server) for server in self.servers)
        if len(servers) > _MOST_SERVERS:
            return None
        head = _HEAD.pack(
            VERSION, self.at, self.lifetime, *self.last_id, self.history, self.marks, len(servers)
        )
        return b"".join([head, *servers, *_encode_found(self.found)])


def digest_of(texts: Iterable[bytes]) -> bytes:
    """Return a digest of some texts."""
    return hashlib.blake2b(b"\0".join(texts), digest_size=_DIGEST).digest()


def _encode_found(found: Payload | Absence) -> list[bytes]:
    if found is ABSENCE:
        return [bytes([_ABSENT])]
    if isinstance(found, bytes):
        return [bytes([_VALUE]), found]
    return [bytes([_VALUES]), *[part for value in found for part in (_pack(value), value)]]


def _pack(value: bytes) -> bytes:
    return _LENGTH.pack(len(value))


def decode(plain: bytes) -> SharedAnswer | None:
    """Return what bytes say that a host has sealed, or None for those of another version."""
    try:
        version, at, lifetime, first, second, history, marks, count = _HEAD.unpack_from(plain)
        if version != VERSION:
            return None
        end = _HEAD.size + count * _DIGEST
        servers = frozenset(
            plain[start : start + _DIGEST].hex() for start in range(_HEAD.size, end, _DIGEST)
        )
        kind, rest = plain[end], plain[end + 1 :]
        found = _decode_found(kind, rest)
    except (struct.error, IndexError):
        return None
    return SharedAnswer(found, at, lifetime, (first, second), history, marks, servers)


def _decode_found(kind: int, rest: bytes) -> Payload | Absence:
    if kind == _VALUE:
        return rest
    return _values(rest) if kind == _VALUES else ABSENCE


def _values(rest: bytes) -> tuple[bytes, ...]:
    values, position = [], 0
    while position < len(rest):
        (length,) = _LENGTH.unpack_from(rest, position)
        position += _LENGTH.size
        values.append(rest[position : position + length])
        position += length
    return tuple(values)
