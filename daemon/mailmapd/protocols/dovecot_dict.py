r"""Dovecot's dict protocol, as its ``proxy`` driver speaks it (Dovecot manual, "Dictionary".

Src/lib-dict/dict-client.h).

Commands and replies are lines that end in LF; arguments are separated by TAB and tab-escaped. The
client begins with a hello, which has no reply:

    H<major> TAB <minor> TAB <value type> TAB <user> TAB <dict>

    L<key>[ TAB <user>]                                  look a key up
    I<flags> TAB <rows> TAB <prefix>[ TAB <user>]        iterate; auth sends its user mask as the user
    B S U A T V R                                        transactions, see dovecot_dict_transactions
    C<id>    D<id>                                       commit; commit in the background

    O<value>                                             found
    N                                                    not found
    F<reason>                                            try later
    O<key> TAB <value>  …  an empty line                 rows of an iteration, and its end (F<reason> ends it, too)
    O<id>    N<id>    F<id> TAB <reason>                 the end of a transaction; behind an A in reply to D

Majors: 2 (Dovecot 2.2.27 to 2.3.16: the user comes with the hello only), 3 (2.3.17 to 2.3.21), 4
(2.4). Anything else cannot be answered.

Two replies crash Dovecot's auth-worker: one that begins with another letter, and a row whose key is
outside the prefix. Neither can be made here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, assert_never

from mailmapd.errors import ProtocolError
from mailmapd.model import (
    Answer,
    DictCommit,
    DictIterate,
    DictLookup,
    DictQuery,
    Found,
    NotFound,
    PermFail,
    TempFail,
)
from mailmapd.protocols import dovecot_dict_transactions, lines
from mailmapd.protocols.dovecot_dict_numbers import UINT32_MAX, UINT64_MAX, parse_unsigned
from mailmapd.protocols.dovecot_dict_transactions import BAD_ARGUMENTS, Transactions
from mailmapd.protocols.lines import LineReader
from mailmapd.protocols.reason import safe_reason
from mailmapd.protocols.tab_escape import escape, split

LINE_LIMIT: Final = 65_536
"""The longest line with its LF, in bytes: DICT_CLIENT_MAX_LINE_LENGTH of Dovecot's dict-client.h."""
MAJOR_VERSIONS: Final = (2, 3, 4)
"""The protocol's versions that are understood."""

NO_HELLO: Final = "no_hello"
BAD_HELLO: Final = "bad_hello"
UNSUPPORTED_VERSION: Final = "unsupported_version"
UNKNOWN_COMMAND: Final = "unknown_command"
REASONS: Final = (
    *lines.REASONS,
    NO_HELLO,
    BAD_HELLO,
    UNSUPPORTED_VERSION,
    UNKNOWN_COMMAND,
    *dovecot_dict_transactions.REASONS,
)

_FLAG_NO_VALUE: Final = 0x08
_END_OF_ROWS: Final = b"\n"
_NOT_FOUND: Final = b"N\n"
_LINE_END: Final = ord("\n")

_new = tuple.__new__  # DictLookup(…) without its Python-level __new__


class DictCodec:
    """One connection's side of the protocol: hello, open transactions, and replies."""

    __slots__ = ("_dict", "_lines", "_major", "_transactions", "_user", "receive_data")

    def __init__(self) -> None:
        self._lines = LineReader(LINE_LIMIT)
        self.receive_data = self._lines.receive_data
        self._dict: str | None = None
        self._major = 0
        self._user = b""
        self._transactions = Transactions()

    @property
    def buffered(self) -> int:
        """Return the bytes received but not yet handed out as queries."""
        return self._lines.buffered

    @property
    def dict_name(self) -> str | None:
        """Return the dict that the client asks, or None before its hello."""
        return self._dict

    def next_query(self) -> DictQuery | None:
        """Return the next complete query, or None when more bytes are needed; raise `ProtocolError`.

        Commands without a reply are taken in on the way. Whether the dict exists is for the caller
        to say; a name that is not UTF-8 is decoded with surrogates and matches no configured one.
        """
        while (line := self._lines.next_line()) is not None:
            try:
                query = self._understand(line)
            except ProtocolError as error:
                self._transactions = Transactions()
                raise self._lines.refuse(error.reason, str(error)) from None
            if query is not None:
                return query
        return None

    def whole_query(self, data: bytes, /) -> DictLookup | None:
        """Return the lookup that `data` holds, if it is whole, names its user, and is all; None says nothing.

        It is what `receive_data` and `next_query` would give between two queries; nothing is
        stored. What it returns depends on nothing but the bytes and the dict of the hello.
        """
        if (
            self._dict is None
            or data[:1] != b"L"
            or data.find(_LINE_END) != len(data) - 1
            or len(data) > LINE_LIMIT
        ):
            return None
        arguments = split(data[1:-1])
        if len(arguments) == 1:
            return None
        return _new(DictLookup, (self._dict, arguments[0], arguments[1]))

    def encode(self, query: DictQuery, answer: Answer) -> bytes:
        """Return the reply to `query`, which must be the oldest unanswered one.

        For an iteration this is its end: Found and NotFound both say that the rows sent before
        (there may be none) were all, and a failure may come after any row.
        """
        match query:
            case DictLookup():
                return encode_lookup(answer)
            case DictIterate():
                return _encode_end(answer)
            case DictCommit():
                return _encode_commit(query, answer)
            case _:
                assert_never(query)

    def encode_rows(self, query: DictIterate, rows: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return rows (key, value) of an iteration; values are left out if the client wants none.

        Raise ValueError for a key outside the prefix that was asked for: Dovecot would crash on it.
        """
        encoded = []
        for key, value in rows:
            if not key.startswith(query.prefix):
                raise ValueError("a row's key is outside the prefix of the iteration")
            encoded.append(b"O%b\t%b\n" % (escape(key), b"" if query.no_value else escape(value)))
        return b"".join(encoded)

    def _understand(self, line: bytes) -> DictQuery | None:
        command = line[:1]
        arguments = split(line[1:])
        if self._dict is None:
            if command != b"H":
                raise ProtocolError(NO_HELLO, "the first line is not a hello")
            self._greet(arguments)
            return None
        match command:
            case b"L":
                return self._look_up(self._dict, arguments)
            case b"I":
                return self._iterate(self._dict, arguments)
            case b"C" | b"D":
                return self._commit(self._dict, arguments, wants_reply=command == b"C")
            case _:
                self._change(command, arguments)
                return None

    def _greet(self, arguments: list[bytes]) -> None:
        if len(arguments) < 5:
            raise ProtocolError(BAD_HELLO, "the hello has fewer than five arguments")
        major = parse_unsigned(arguments[0], UINT32_MAX)
        if major is None or parse_unsigned(arguments[1], UINT32_MAX) is None:
            raise ProtocolError(BAD_HELLO, "the version in the hello is not a number")
        if major not in MAJOR_VERSIONS:
            raise ProtocolError(
                UNSUPPORTED_VERSION,
                f"the client speaks version {major} of the protocol; known are 2, 3 and 4",
            )
        self._major = major
        self._user = arguments[3]
        self._dict = arguments[4].decode("utf-8", "surrogateescape")

    def _look_up(self, name: str, arguments: list[bytes]) -> DictLookup:
        return DictLookup(name, arguments[0], self._user_of(arguments, 1))

    def _iterate(self, name: str, arguments: list[bytes]) -> DictIterate:
        if len(arguments) < 3:
            raise ProtocolError(BAD_ARGUMENTS, "ITERATE has fewer than three arguments")
        flags = parse_unsigned(arguments[0], UINT32_MAX)
        limit = parse_unsigned(arguments[1], UINT64_MAX)
        if flags is None or limit is None:
            raise ProtocolError(
                BAD_ARGUMENTS, "the flags or the row limit of ITERATE are not numbers"
            )
        if self._major == 2 and len(arguments) > 3:
            raise ProtocolError(BAD_ARGUMENTS, "ITERATE over several prefixes is not supported")
        return DictIterate(
            name, arguments[2], self._user_of(arguments, 3), limit, bool(flags & _FLAG_NO_VALUE)
        )

    def _commit(self, name: str, arguments: list[bytes], *, wants_reply: bool) -> DictCommit:
        return DictCommit(name, self._transactions.end(arguments), wants_reply)

    def _change(self, command: bytes, arguments: list[bytes]) -> None:
        match command:
            case b"B":
                self._transactions.begin(arguments)
            case b"S":
                self._transactions.set(arguments)
            case b"U":
                self._transactions.unset(arguments)
            case b"A":
                self._transactions.increment(arguments)
            case b"T":
                self._transactions.set_timestamp(arguments)
            case b"V":
                self._transactions.hide_values(arguments)
            case b"R":
                self._transactions.end(arguments)
            case _:
                raise ProtocolError(
                    UNKNOWN_COMMAND, "a line begins with no command of the protocol"
                )

    def _user_of(self, arguments: list[bytes], position: int) -> bytes:
        """Return the command's own user, else the hello's."""
        return arguments[position] if len(arguments) > position else self._user


def encode_lookup(answer: Answer) -> bytes:
    """Return the reply to a lookup."""
    if isinstance(answer, Found):  # in front of the pattern, which takes twice as long
        return b"O%b\n" % escape(answer[0])
    match answer:
        case NotFound():
            return _NOT_FOUND
        case TempFail() | PermFail():
            return b"F%b\n" % safe_reason(answer.reason)
        case _:
            assert_never(answer)


def _encode_end(answer: Answer) -> bytes:
    match answer:
        case Found() | NotFound():
            return _END_OF_ROWS
        case TempFail() | PermFail():
            return b"F%b\n" % safe_reason(answer.reason)
        case _:
            assert_never(answer)


def _encode_commit(query: DictCommit, answer: Answer) -> bytes:
    """Encode the end of a transaction.

    As Dovecot's own server does, a commit in the background gets its reply, too, marked with A.
    """
    mark = b"" if query.wants_reply else b"A"
    match answer:
        case Found():
            return b"%bO%d\n" % (mark, query.transaction)
        case NotFound():
            return b"%bN%d\n" % (mark, query.transaction)
        case TempFail() | PermFail():
            return b"%bF%d\t%b\n" % (mark, query.transaction, safe_reason(answer.reason))
        case _:
            assert_never(answer)
