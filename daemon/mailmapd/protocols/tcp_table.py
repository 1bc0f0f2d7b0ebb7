"""Postfix's tcp_table protocol, see tcp_table(5).

Requests and replies are lines that end in LF; in keys, values and texts ``%``, white space and
everything outside printable ASCII is %XX-encoded:

    get SP <key>             look a key up
    put SP <key> SP <value>  an update, always rejected

    200 SP <value>           found
    500 SP <text>            not found (or: update rejected), never an error
    400 SP <text>            try later; Postfix disconnects after it

There is no map name: each listener serves one map. A reply has at most 4 096 bytes with its LF; a
value that needs more becomes 400. An update is handed out as a query for the empty key, which no
table holds, so that it gets its 500 in its turn.
"""

from __future__ import annotations

import re
from typing import Final, assert_never
from urllib.parse import unquote_to_bytes

from mailmapd.model import Answer, Found, MapQuery, NotFound, PermFail, TempFail
from mailmapd.protocols import lines
from mailmapd.protocols.codec import KEY_LIMIT
from mailmapd.protocols.lines import LineReader
from mailmapd.protocols.reason import safe_reason

REQUEST_LIMIT: Final = len("get ") + 3 * KEY_LIMIT + 1
"""The longest request with its LF, in bytes: the longest key, all of it encoded.

The protocol's 4 096 bytes limit replies only. An address of 1 400 bytes to encode is within
Postfix's line_length_limit but over 4 096 when encoded, and a connection closed on it would make
Postfix wait for ten seconds."""
REPLY_LIMIT: Final = 4_096
"""The longest reply with its LF, in bytes: DICT_TCP_MAXLEN of Postfix's dict_tcp.c."""

UNKNOWN_COMMAND: Final = "unknown_command"
BAD_ENCODING: Final = "bad_encoding"
KEY_TOO_LONG: Final = "key_too_long"
REASONS: Final = (*lines.REASONS, UNKNOWN_COMMAND, BAD_ENCODING, KEY_TOO_LONG)

_GET: Final = b"get "
_PUT: Final = b"put "
_UPDATE: Final = MapQuery(b"", b"")
_ENCODED: Final = re.compile(rb"(?:[!-$&-~]++|%[0-9A-Fa-f]{2})*+")
_USUAL: Final = re.compile(rb"get ([!-$&-~]{1,1000})\n").fullmatch
_UNSAFE: Final = re.compile(rb"[^!-$&-~]")
_ESCAPES: Final = tuple([b"%%%02X" % byte for byte in range(256)])

_VALUE_LIMIT: Final = REPLY_LIMIT - len(b"200 \n")
_NOT_FOUND: Final = b"500 not%20found\n"
_EMPTY_VALUE: Final = b"400 the%20table%20returned%20an%20empty%20value\n"
_VALUE_TOO_LONG: Final = (
    b"400 the%20value%20is%20longer%20than%20a%20tcp_table%20reply%20can%20be\n"
)

_new = tuple.__new__  # MapQuery(…) without its Python-level __new__


class TcpTableCodec:
    """One connection's side of the protocol."""

    __slots__ = ("_lines", "receive_data")

    def __init__(self) -> None:
        self._lines = LineReader(REQUEST_LIMIT)
        self.receive_data = self._lines.receive_data

    @property
    def buffered(self) -> int:
        """Return the bytes received but not yet handed out as queries."""
        return self._lines.buffered

    def whole_query(self, data: bytes, /) -> MapQuery | None:
        """Return the query that is all of `data`, if nothing in its key is encoded; see `MapCodec`."""
        usual = _USUAL(data)
        return None if usual is None else _new(MapQuery, (b"", usual[1]))

    def next_query(self) -> MapQuery | None:
        """Return the next complete query, or None when more bytes are needed; raise `ProtocolError`."""
        line = self._lines.next_line()
        if line is None:
            return None
        if line.startswith(_GET):
            return MapQuery(b"", self._decode_key(line[len(_GET) :]))
        if line.startswith(_PUT):
            return _UPDATE
        raise self._lines.refuse(UNKNOWN_COMMAND, "a request begins with neither 'get ' nor 'put '")

    def encode(self, answer: Answer) -> bytes:
        """Return the reply to the oldest unanswered query."""
        match answer:
            case Found():
                return _encode_value(answer.value)
            case NotFound():
                return _NOT_FOUND
            case TempFail() | PermFail():
                return b"400 %b\n" % _quote(safe_reason(answer.reason))
            case _:
                assert_never(answer)

    def _decode_key(self, encoded: bytes) -> bytes:
        if _ENCODED.fullmatch(encoded) is None:
            raise self._lines.refuse(BAD_ENCODING, "a key is not %XX-encoded")
        key = unquote_to_bytes(encoded) if b"%" in encoded else encoded
        if len(key) > KEY_LIMIT:
            raise self._lines.refuse(KEY_TOO_LONG, f"a key is longer than {KEY_LIMIT} bytes")
        return key


def _encode_value(value: bytes) -> bytes:
    if not value:
        return _EMPTY_VALUE
    if len(value) > _VALUE_LIMIT:
        return _VALUE_TOO_LONG
    quoted = _quote(value)
    if len(quoted) > _VALUE_LIMIT:
        return _VALUE_TOO_LONG
    return b"200 %b\n" % quoted


def _quote(text: bytes) -> bytes:
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[bytes]) -> bytes:
    return _ESCAPES[ord(match[0])]
