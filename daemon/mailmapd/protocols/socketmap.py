"""Postfix's socketmap protocol, see socketmap_table(5).

Requests and replies are netstrings:

    <map> SP <key>       look a key up; the key may hold any bytes, spaces included, and may be empty

    OK SP <value>        found
    NOTFOUND SP          not found
    TEMP SP <reason>     try later
    PERM SP <reason>     never to be answered as asked; Postfix defers the mail all the same

Postfix takes ``OK`` with an empty value for an error of the table, so that is never sent, and
refuses replies over 100 000 bytes: a longer value becomes TEMP, because half a list of recipients
would lose mail.
"""

from __future__ import annotations

from typing import Final, assert_never

from mailmapd.model import Answer, Found, MapQuery, NotFound, PermFail, TempFail
from mailmapd.protocols import netstring
from mailmapd.protocols.codec import KEY_LIMIT
from mailmapd.protocols.netstring import NetstringReader, encode_netstring
from mailmapd.protocols.reason import safe_reason

MAP_NAME_LIMIT: Final = 255
"""The longest map name that fits with the longest key, in bytes."""
REQUEST_LIMIT: Final = MAP_NAME_LIMIT + 1 + KEY_LIMIT
"""The longest request, in bytes."""
REPLY_LIMIT: Final = 100_000
"""The longest reply, status word included, in bytes: DICT_SOCKMAP_DEF_MAX_REPLY of Postfix's dict_sockmap.c."""

BAD_REQUEST: Final = "bad_request"
KEY_TOO_LONG: Final = "key_too_long"
REASONS: Final = (*netstring.REASONS, BAD_REQUEST, KEY_TOO_LONG)

_OK: Final = b"OK "
_NOT_FOUND: Final = encode_netstring(b"NOTFOUND ")
_EMPTY_VALUE: Final = encode_netstring(b"TEMP the table returned an empty value")
_VALUE_TOO_LONG: Final = encode_netstring(b"TEMP the value is longer than a socketmap reply can be")

# Replies to common values start with one of these; looking it up is quicker than formatting a number.
_OK_PREFIXES: Final = tuple([b"%d:%b" % (len(_OK) + size, _OK) for size in range(1024)])


def _length(size: int) -> bytes:
    """Return the length that stands before the colon of a request of `size` bytes in all.

    For a size that none can have, what none has.
    """
    for digits in range(1, len(str(size)) + 1):
        length = size - digits - len(":,")
        if length >= 0 and len(str(length)) == digits:
            return b"%d" % length
    return b":"


_LENGTHS: Final = tuple([_length(size) for size in range(1024)])
_COMMA: Final = ord(",")

_new = tuple.__new__  # MapQuery(…) without its Python-level __new__


class SocketmapCodec:
    """One connection's side of the protocol."""

    __slots__ = ("_netstrings", "receive_data")

    def __init__(self) -> None:
        self._netstrings = NetstringReader(REQUEST_LIMIT)
        # Taken over, not wrapped: it runs once for every lookup
        self.receive_data = self._netstrings.receive_data

    @property
    def buffered(self) -> int:
        """Return the bytes received but not yet handed out as queries."""
        return self._netstrings.buffered

    def whole_query(self, data: bytes, /) -> MapQuery | None:
        """Return the query that is all of `data`; see `MapCodec`."""
        size = len(data)
        if size >= len(_LENGTHS):
            return None
        beginning, _, key = data.partition(b" ")
        length, _, name = beginning.partition(b":")
        if length != _LENGTHS[size] or data[-1] != _COMMA or not name or len(key) <= 1:
            return None
        return _new(MapQuery, (name, key[:-1]))

    def next_query(self) -> MapQuery | None:
        """Return the next complete query, or None when more bytes are needed; raise `ProtocolError`."""
        payload = self._netstrings.next_payload()
        if payload is None:
            return None
        name, space, key = payload.partition(b" ")
        if not name or not space:
            raise self._netstrings.refuse(
                BAD_REQUEST, "a request is not a map name, a space and a key"
            )
        if len(key) > KEY_LIMIT:
            raise self._netstrings.refuse(KEY_TOO_LONG, f"a key is longer than {KEY_LIMIT} bytes")
        return _new(MapQuery, (name, key))

    def encode(self, answer: Answer) -> bytes:
        """Return the reply to the oldest unanswered query."""
        if isinstance(answer, Found):  # in front of the pattern, which takes twice as long
            value = answer[0]
            size = len(value)
            if 0 < size < len(_OK_PREFIXES):
                return _OK_PREFIXES[size] + value + b","
            return _encode_unusual_value(value)
        match answer:
            case NotFound():
                return _NOT_FOUND
            case TempFail():
                return encode_netstring(b"TEMP " + safe_reason(answer.reason))
            case PermFail():
                return encode_netstring(b"PERM " + safe_reason(answer.reason))
            case _:
                assert_never(answer)


def _encode_unusual_value(value: bytes) -> bytes:
    """Return the reply for a value that is empty or long."""
    if not value:
        return _EMPTY_VALUE
    if len(_OK) + len(value) > REPLY_LIMIT:
        return _VALUE_TOO_LONG
    return encode_netstring(_OK + value)
