"""Packets of a stream: a 3-byte length, a sequence number, a payload; one of 16 MiB - 1 bytes goes on in the next."""

from __future__ import annotations

from collections.abc import Iterator

_HEADER = 4
_LONGEST = 0xFFFFFF


class TooLong(Exception):
    """A payload goes on beyond the limit."""


class PacketSplitter:
    """Takes bytes in any pieces and gives whole payloads, of at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._size = 0

    def receive_data(self, data: bytes | memoryview) -> None:
        """Store bytes as they came."""
        self._buffer += data

    def payloads(self) -> Iterator[bytes]:
        """Yield the payloads that are complete. Raises TooLong as soon as a length says so."""
        buffer = self._buffer
        at, end = 0, len(buffer)
        try:
            while end - at >= _HEADER:
                size = int.from_bytes(buffer[at : at + 3], "little")
                if self._size + size > self._limit:
                    raise TooLong(f"a packet of more than {self._limit} bytes")
                if end - at < _HEADER + size:
                    return
                payload = bytes(memoryview(buffer)[at + _HEADER : at + _HEADER + size])
                at += _HEADER + size
                if size == _LONGEST:
                    self._parts.append(payload)
                    self._size += size
                    continue
                if self._parts:
                    payload = b"".join((*self._parts, payload))
                    self._parts.clear()
                    self._size = 0
                yield payload
        finally:
            del buffer[:at]
