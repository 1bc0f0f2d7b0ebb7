r"""Quoting values inside a SQL string, equal to the library's mysql_real_escape_string() and to SQLite's %q.

    \0 \n \r \Z \\ \' \"     what a backslash goes before (NUL, newline, return, control-Z, and the three themselves)
    ''   the one thing to do with NO_BACKSLASH_ESCAPES: there, a backslash would open an injection

In a character set whose characters may hold a byte such as 0x5C (gbk, big5, sjis, cp932) a whole
character is left alone, and a first byte without its second gets a backslash, so that it cannot swallow the
quote that follows. Both rules are those of MariaDB Connector/C 3.3, which Postfix is linked with. A test
puts every pair of bytes before a quote, in every character set here, before the server's own lexer. One that
no test server knows (gb18030, whose four-byte characters Connector/C itself gets wrong) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mailmapd.errors import TemplateError
from mailmapd.template.statement import Quote

_BACKSLASHED = {
    b"\0": b"\\0",
    b"\n": b"\\n",
    b"\r": b"\\r",
    b"\x1a": b"\\Z",
    b"\\": b"\\\\",
    b"'": b"\\'",
    b'"': b'\\"',
}
_NEEDS_BACKSLASH = rb"""[\x00\n\r\x1a\\'"]"""

_EUC_JP = rb"\x8e[\xa1-\xdf]|\x8f[\xa1-\xfe][\xa1-\xfe]|[\xa1-\xfe][\xa1-\xfe]"
# Two oddities of Connector/C, which make no difference to the value that the server reads: in
# eucjpms the first two bytes of a three-byte
# character pass for all of it, in euckr any high byte may come first.
_EUC_JP_MS = rb"\x8e[\xa1-\xdf]|\x8f[\xa1-\xfe](?=[\xa1-\xfe])|[\xa1-\xfe][\xa1-\xfe]"
_EUC_KR = rb"[\x80-\xff][\xa1-\xfe]"
_SJIS = rb"[\x81-\x9f\xe0-\xfc][\x40-\x7e\x80-\xfc]"

_MULTI_BYTE: dict[str, tuple[bytes, bytes]] = {
    # What a character of several bytes looks like, and the bytes that begin one (none where
    # Connector/C leaves a lone one as it is).
    "big5": (rb"[\xa1-\xf9][\x40-\x7e\xa1-\xfe]", rb"[\xa1-\xf9]"),
    "cp932": (_SJIS, rb"[\x81-\x9f\xe0-\xfc]"),
    "eucjpms": (_EUC_JP_MS, rb"[\x8e\x8f\xa1-\xfe]"),
    "euckr": (_EUC_KR, rb"[\xa1-\xfe]"),
    "gb2312": (rb"[\xa1-\xf7][\xa1-\xfe]", rb"[\xa1-\xf7]"),
    "gbk": (rb"[\x81-\xfe][\x40-\x7e\x80-\xfe]", rb"[\x81-\xfe]"),
    "sjis": (_SJIS, rb"[\x81-\x9f\xe0-\xfc]"),
    "ujis": (_EUC_JP, rb"[\x8e\x8f\xa1-\xfe]"),
}
_HOLDS_BACKSLASH = frozenset({"big5", "cp932", "gbk", "sjis"})
"""Character sets with a backslash, a backquote or a letter as the second half of a character."""

_UNPROVEN = frozenset({"gb18030"})

# In UTF-8 no byte of a longer character looks like a special one.
_BYTE_BY_BYTE = frozenset(
    re.findall(
        r"\w+",
        "utf8 utf8mb3 utf8mb4 ascii binary armscii8 cp1250 cp1251 cp1256 cp1257 cp850 cp852 "
        "cp866 dec8 geostd8 greek hebrew hp8 keybcs2 "
        "koi8r koi8u latin1 latin2 latin5 latin7 macce macroman swe7 tis620",
    )
)


def make_quote(charset: str, no_backslash_escapes: bool) -> Quote:
    """Return the quoting function of a connection with this character set and NO_BACKSLASH_ESCAPES or not.

    Raise ValueError for a character set that does not exist or that no connection can use (ucs2, utf16, utf32).
    """
    if charset in _UNPROVEN:
        raise ValueError(
            f"{charset}: a backslash can be part of a character there, and no quoting is proven; write utf8mb4"
        )
    if charset in _BYTE_BY_BYTE:
        return _double_quotes if no_backslash_escapes else _backslash_bytes
    if charset not in _MULTI_BYTE:
        raise ValueError(f"{charset}: not a character set that a connection can use; write utf8mb4")
    character, first_byte = _MULTI_BYTE[charset]
    if no_backslash_escapes:
        return _quoting(re.compile(b"(?:%b)|'" % character), {b"'": b"''"}, b"")
    specials = b"|".join(filter(None, [_NEEDS_BACKSLASH, first_byte]))
    return _quoting(re.compile(b"(?:%b)|%b" % (character, specials)), _BACKSLASHED, b"\\")


def check_literals(query: bytes, charset: str) -> None:
    """Raise TemplateError for a query whose own text could swallow the quote or the value that follows it."""
    if charset in _HOLDS_BACKSLASH and not query.isascii():
        raise TemplateError(
            f"letters beyond ASCII in a query over charset {charset}, in which they may join with what "
            "follows them; write them as X'…', or set charset to utf8mb4"
        )


def sqlite_quote(raw: bytes) -> bytes:
    """Escape for SQLite, where only the single quote is special."""
    return raw.replace(b"'", b"''")


_has_specials = re.compile(_NEEDS_BACKSLASH).search
_is_clean = re.compile(
    rb"[ !#-&(-\[\]-~]*"
).fullmatch  # printable ASCII without quotes and backslash


def _backslash_bytes(raw: bytes) -> bytes:
    if _has_specials(raw) is None:
        return raw
    return re.sub(_NEEDS_BACKSLASH, _backslashed, raw)


def _backslashed(found: re.Match[bytes]) -> bytes:
    return _BACKSLASHED[found[0]]


_double_quotes = sqlite_quote


def _quoting(
    pattern: re.Pattern[bytes], replacements: dict[bytes, bytes], before_lone_first_byte: bytes
) -> Callable[[bytes], bytes]:
    """Return a function that leaves whole characters alone and treats single bytes.

    A special one, or a first byte without its second.
    """

    def replace(found: re.Match[bytes]) -> bytes:
        piece = found[0]
        return (
            piece if len(piece) > 1 else replacements.get(piece) or before_lone_first_byte + piece
        )

    def quote(raw: bytes) -> bytes:
        return raw if _is_clean(raw) else pattern.sub(replace, raw)

    return quote
