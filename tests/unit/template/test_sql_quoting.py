"""Every expected text is what mysql_real_escape_string() of MariaDB Connector/C 3.3 returned."""

from __future__ import annotations

import pytest

from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.sql_quoting import make_quote, sqlite_quote


@pytest.mark.parametrize("charset", ["utf8mb4", "utf8", "latin1", "gbk", "sjis", "ujis"])
def test_ascii_is_escaped_alike_everywhere(charset: str) -> None:
    """In every character set a clean key stays as it is, and seven characters get a backslash."""
    quote = make_quote(charset, no_backslash_escapes=False)
    assert quote(b"user+ext@example.com %_") == b"user+ext@example.com %_"
    assert quote(b"") == b""
    assert quote(b"'\"\\\0\n\r\x1a") == b"\\'\\\"\\\\\\0\\n\\r\\Z"


@pytest.mark.parametrize("charset", ["utf8mb4", "latin1", "gbk", "eucjpms"])
def test_without_backslash_escapes_quotes_are_doubled(charset: str) -> None:
    """With NO_BACKSLASH_ESCAPES only the single quote is special: a backslash is an ordinary character."""
    assert make_quote(charset, no_backslash_escapes=True)(b"'\"\\\0\n") == b"''\"\\\0\n"


@pytest.mark.parametrize(
    ("charset", "raw", "escaped", "doubled"),
    [
        (
            "utf8mb4",
            "zoëßs\U0001f4e7'".encode(),
            "zoëßs\U0001f4e7\\'".encode(),
            "zoëßs\U0001f4e7''".encode(),
        ),
        ("utf8mb4", b"\xc3'\xe2\x82'", b"\xc3\\'\xe2\x82\\'", b"\xc3''\xe2\x82''"),
        ("latin1", b"\xbf'\xbf\\", b"\xbf\\'\xbf\\\\", b"\xbf''\xbf\\"),
        ("gbk", b"\xbf'", b"\\\xbf\\'", b"\xbf''"),
        ("gbk", b"\xbf\\'", b"\xbf\\\\'", b"\xbf\\''"),
        ("gbk", b"\xbf", b"\\\xbf", b"\xbf"),
        ("big5", b"\xa4\\'\xa4'", b"\xa4\\\\'\\\xa4\\'", b"\xa4\\''\xa4''"),
        ("sjis", b"\x83\\'\x83'", b"\x83\\\\'\\\x83\\'", b"\x83\\''\x83''"),
        ("cp932", b"\x83\\'", b"\x83\\\\'", b"\x83\\''"),
        ("gb2312", b"\xb0\xa1\xb0'", b"\xb0\xa1\\\xb0\\'", b"\xb0\xa1\xb0''"),
        ("euckr", b"\xb0\xa1\xb0'", b"\xb0\xa1\\\xb0\\'", b"\xb0\xa1\xb0''"),
        (
            "ujis",
            b"\x8f\xb0\xa1\x8e\xb1\xb0'",
            b"\x8f\xb0\xa1\x8e\xb1\\\xb0\\'",
            b"\x8f\xb0\xa1\x8e\xb1\xb0''",
        ),
        (
            "eucjpms",
            b"\x8e\xb1\xb0\xa1\x8f'",
            b"\x8e\xb1\xb0\xa1\\\x8f\\'",
            b"\x8e\xb1\xb0\xa1\x8f''",
        ),
    ],
)
def test_characters_of_several_bytes_stay_whole(
    charset: str, raw: bytes, escaped: bytes, doubled: bytes
) -> None:
    """A whole character hides its second byte; a first byte alone cannot swallow the quote that follows."""
    assert make_quote(charset, no_backslash_escapes=False)(raw) == escaped
    assert make_quote(charset, no_backslash_escapes=True)(raw) == doubled


@pytest.mark.parametrize("charset", ["utf16", "ucs2", "utf8mb5", "gb18030", ""])
def test_a_character_set_must_be_usable(charset: str) -> None:
    """A name that is no character set of connections is refused: guessing could open an injection."""
    with pytest.raises(ValueError, match="write utf8mb4"):
        make_quote(charset, no_backslash_escapes=False)


def test_sqlite_doubles_single_quotes() -> None:
    """SQLite knows no other special character."""
    assert sqlite_quote(b"o'neil\\\"") == b"o''neil\\\""


@pytest.mark.parametrize("charset", ["utf8mb4", "gbk"])
def test_between_double_quotes(charset: str) -> None:
    """A value between double quotes has its own doubled, which ends neither a string nor, with ANSI_QUOTES, a name."""
    table = MysqlTable.compile("t", b"""SELECT "%s", '%s', "it's %u", '{"a": "%d"}'""")
    key = b'a"b@c"d'
    assert table.statement(key).render(make_quote(charset, no_backslash_escapes=True)) == (
        b"""SELECT "a""b@c""d", 'a"b@c"d', "it's a""b", '{"a": "c"d"}'"""
    )
    assert table.statement(key).render(make_quote(charset, no_backslash_escapes=False)) == (
        rb"""SELECT "a""b@c""d", 'a\"b@c\"d', "it's a""b", '{"a": "c\"d"}'"""
    )
