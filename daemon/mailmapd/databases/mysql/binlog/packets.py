"""Packets of a stream: a 3-byte length, a sequence number, a payload; one of 16 MiB - 1 bytes goes on in the next."""

from __future__ import annotations

_HEADER = 4
_LONGEST = 0xFFFFFF


class TooLong(Exception):
    """A payload goes on beyond the limit."""


class PacketSplitter:
    """Takes bytes in any pieces and gives payloads: whole ones up to `kept` bytes, and the beginnings of longer ones.

    No payload may have more than `limit` bytes.
    """

    def __init__(self, limit: int, kept: int) -> None:
        self._limit = limit
        self._kept = kept
        self._buffer = bytearray()
        self._at = 0  # what is before it in the buffer has been taken
        self._payload = bytearray()  # what is kept of one that is not complete
        self._size = 0  # of that one, with all of its packets that have begun
        self._missing = 0  # bytes of its last packet
        self._goes_on = False  # in another packet

    def receive_data(self, data: bytes | memoryview) -> None:
        """Store bytes as they came."""
        self._buffer += data

    def next_payload(self) -> bytes | None:
        """Return the next payload that is complete, or None. Raises TooLong as soon as a length says so."""
        buffer = self._buffer
        end = len(buffer)
        while True:
            if not self._missing and not self._begin_packet(buffer, end):
                break
            at = self._at
            taken = min(self._missing, end - at)
            room = min(taken, self._kept - len(self._payload))
            self._payload += memoryview(buffer)[at : at + room]
            self._at = at + taken
            self._missing -= taken
            if self._missing:
                break
            if not self._goes_on:
                payload = bytes(self._payload)
                self._payload.clear()
                self._size = 0
                return payload
        del buffer[: self._at]
        self._at = 0
        return None

    def _begin_packet(self, buffer: bytearray, end: int) -> bool:
        """Take a packet's header; return whether it was there."""
        at = self._at
        if end - at < _HEADER:
            return False
        size = int.from_bytes(buffer[at : at + 3], "little")
        self._size += size
        if self._size > self._limit:
            raise TooLong(f"a packet of more than {self._limit} bytes")
        self._at = at + _HEADER
        self._missing = size
        self._goes_on = size == _LONGEST
        return True
