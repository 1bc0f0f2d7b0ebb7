"""Packets of the MySQL client/server protocol, as a pure codec: no socket, no loop, no clock.

    length(3, little endian) number(1) payload        a payload of 16 MiB - 1 bytes goes on in the next packet

Numbers start at 0 with each command and go on through the reply. A `PacketReader` is what replies are
read with: it hands whole payloads to `_expect`, where they lie, without copying them. A
`PacketSplitter` is for a stream that never ends, the log of changes: its payloads are asked for one
by one, may be as long as a server can send, and only their beginnings are kept then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MAX_PACKET = 0xFFFFFF
"""The longest payload of one packet, in bytes."""

HEADER = 4
"""The length of what stands before each payload, in bytes."""

_ERR = 0xFF


class WireError(Exception):
    """The server broke the protocol, or sent more than the limit: the connection cannot be used any more."""


def encode_payload(payload: bytes, number: int = 0) -> bytes:
    """Return a payload as packets, the first of which has this number."""
    size = len(payload)
    if size < MAX_PACKET:
        return (number << 24 | size).to_bytes(HEADER, "little") + payload
    pieces = [payload[start : start + MAX_PACKET] for start in range(0, size + 1, MAX_PACKET)]
    return b"".join(
        [
            ((number + index) % 256 << 24 | len(piece)).to_bytes(HEADER, "little") + piece
            for index, piece in enumerate(pieces)
        ]
    )


class PacketReader:
    """Takes bytes in any pieces and hands each whole payload to `_expect`, which tells whether it was the last.

    `_expect` is called with the reader, the bytes, and where in them the payload starts and ends. A
    payload of more than `max_payload` bytes is refused before it piles up.
    """

    __slots__ = ("_chunks", "_expect", "_long", "_max_payload", "_missing", "_sequence")

    _expect: Callable[[Any, bytes, int, int], bool]

    def __init__(self, max_payload: int) -> None:
        self._max_payload = max_payload
        self._chunks: list[bytes] = []
        self._restart()

    def receive_data(self, data: bytes) -> bool:
        """Read what came; return whether the last payload is complete. Raises WireError."""
        if self._chunks:
            self._chunks.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return False
            data = b"".join(self._chunks)
            self._chunks.clear()
        return self._read(data)

    def _restart(self, number: int = 1) -> None:
        """Prepare for a reply whose first packet has this number."""
        self._long = b""
        self._missing = 0
        self._sequence = number
        self._chunks.clear()

    def _read(self, data: bytes, at: int = 0) -> bool:
        """Read the whole packets in `data`, from `at` on, and keep the rest."""
        try:
            return self._read_packets(data, at)
        except IndexError:
            raise WireError("a packet ends within a value") from None

    def _read_packets(self, data: bytes, at: int) -> bool:
        end = len(data)
        while end - at >= HEADER:
            size = data[at] | data[at + 1] << 8 | data[at + 2] << 16
            start = at + HEADER
            at = start + size
            if at > end:
                if size + len(self._long) > self._max_payload:
                    raise WireError(f"a packet of more than {self._max_payload} bytes")
                return self._wait(data[start - HEADER :], at - end)
            if data[start - 1] != self._sequence and not (size and data[start] == _ERR):
                raise WireError(f"packet {data[start - 1]} came where {self._sequence} was due")
            self._sequence = (self._sequence + 1) & 0xFF
            if size == MAX_PACKET or self._long:
                self._long += data[start:at]
                if len(self._long) > self._max_payload:
                    raise WireError(f"a packet of more than {self._max_payload} bytes")
                if size == MAX_PACKET:
                    continue
                payload, self._long = self._long, b""
                complete = self._expect(self, payload, 0, len(payload))
            else:
                complete = self._expect(self, data, start, at)
            if complete:
                if at != end:
                    raise WireError("bytes follow a complete reply")
                return True
        return self._wait(data[at:], HEADER - (end - at)) if at < end else False

    def _wait(self, rest: bytes, missing: int) -> bool:
        """Keep the beginning of a packet until `missing` more bytes are there."""
        self._chunks.append(rest)
        self._missing = missing
        return False


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
        """Return the next payload that is complete, or None. Raises WireError as soon as a length says so."""
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
        if end - at < HEADER:
            return False
        size = int.from_bytes(buffer[at : at + 3], "little")
        self._size += size
        if self._size > self._limit:
            raise WireError(f"a packet of more than {self._limit} bytes")
        self._at = at + HEADER
        self._missing = size
        self._goes_on = size == MAX_PACKET
        return True
