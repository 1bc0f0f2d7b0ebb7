"""Netstrings: a payload with its length in front, ``24:mailbox user@example.com,``.

    <length in decimal digits> ":" <payload> ","

The length counts bytes. See http://cr.yp.to/proto/netstrings.txt and Postfix's netstring(3). This
reader is stricter than Postfix's: a leading zero is refused, and so is a length with more digits
than the limit has, before any of the payload is waited for.
"""

from __future__ import annotations

from typing import Final

from mailmapd.errors import ProtocolError
from mailmapd.protocols.received import Received

BAD_LENGTH: Final = "bad_length"
TOO_LONG: Final = "too_long"
BAD_TERMINATOR: Final = "bad_terminator"
REASONS: Final = (BAD_LENGTH, TOO_LONG, BAD_TERMINATOR)

# Nearly all lookups are shorter than this; finding their length here is twice as fast as int(),
# which also takes "+1", " 1" and "1_0".
_SHORT_LENGTHS: Final = {b"%d" % length: length for length in range(1000)}
_DIGITS: Final = b"0123456789"
_COMMA: Final = ord(",")


def encode_netstring(payload: bytes) -> bytes:
    """Return the payload as a netstring."""
    return b"%d:%b," % (len(payload), payload)


class NetstringReader(Received):
    """Cuts what is received into payloads of at most `limit` bytes."""

    __slots__ = ("_limit", "_prefix_limit")

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._prefix_limit = len(str(limit)) + 1

    def next_payload(self) -> bytes | None:
        """Return the next payload, or None when it is not complete; raise `ProtocolError`."""
        data = self._data
        if not data:
            self.check()
            return None
        start = self._start
        colon = data.find(b":", start, start + self._prefix_limit)
        if colon < 0:
            self._check_unfinished_length()
            return None
        length = _SHORT_LENGTHS.get(data[start:colon])
        if length is None or length > self._limit:
            length = self._parse_length(data[start:colon])
        payload_start = colon + 1
        end = payload_start + length
        if end >= len(data):
            return None
        if data[end] != _COMMA:
            raise self.refuse(
                BAD_TERMINATOR, "a netstring does not end in a comma where its length says"
            )
        if end + 1 == len(data):
            self._data = b""
            self._start = 0
        else:
            self._start = end + 1
        return data[payload_start:end]

    def _check_unfinished_length(self) -> None:
        """Raise when what waits cannot become a length, however it goes on."""
        prefix = self._data[self._start : self._start + self._prefix_limit]
        self._check_digits(prefix)
        if len(prefix) == self._prefix_limit:
            raise self._too_long()

    def _parse_length(self, digits: bytes) -> int:
        if not digits:
            raise self._bad_length()
        self._check_digits(digits)
        length = int(digits)
        if length > self._limit:
            raise self._too_long()
        return length

    def _check_digits(self, prefix: bytes) -> None:
        if prefix.strip(_DIGITS) or (prefix[:1] == b"0" and len(prefix) > 1):
            raise self._bad_length()

    def _bad_length(self) -> ProtocolError:
        return self.refuse(
            BAD_LENGTH, "a netstring does not begin with its length in decimal digits"
        )

    def _too_long(self) -> ProtocolError:
        return self.refuse(TOO_LONG, f"a netstring is longer than {self._limit} bytes")
