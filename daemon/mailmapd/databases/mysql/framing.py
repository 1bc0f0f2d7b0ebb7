"""Packets of the MySQL client/server protocol, as a pure codec: no socket, no loop, no clock.

    length(3, little endian) number(1) payload        a payload of 16 MiB - 1 bytes goes on in the next packet

Numbers start at 0 with each command and go on through the reply. A `PacketReader` is what replies are
read with, and any other stream of a logged-in connection can be: it hands whole payloads to
`_expect`, where they lie, without copying them.
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
        return size.to_bytes(3, "little") + bytes([number]) + payload
    pieces = [payload[start : start + MAX_PACKET] for start in range(0, size + 1, MAX_PACKET)]
    return b"".join(
        [
            len(piece).to_bytes(3, "little") + bytes([(number + index) % 256]) + piece
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
        try:
            return self._read(data)
        except IndexError:
            raise WireError("a packet ends within a value") from None

    def _restart(self, number: int = 1) -> None:
        """Prepare for a reply whose first packet has this number."""
        self._long = b""
        self._missing = 0
        self._sequence = number
        self._chunks.clear()

    def _read(self, data: bytes) -> bool:
        """Read the whole packets in `data` and keep the rest."""
        at, end = 0, len(data)
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
