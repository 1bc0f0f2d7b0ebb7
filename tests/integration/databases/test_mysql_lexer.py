"""The server's own lexer has the last word: on our reading of SQL text, and on every pair of bytes before a quote."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest

from mailmapd.databases.settings import MysqlSettings
from mailmapd.plan.databases import check_settings
from mailmapd.template.sql_lexer import Place, Rules, SqlLexer
from mailmapd.template.sql_quoting import make_quote
from support.mariadb import MariaDB

pytestmark = pytest.mark.servers

SEED = int(os.environ.get("MAILMAPD_TEST_SEED") or random.SystemRandom().randrange(10**9))
TEXTS = 1500
SYNTAX, UNKNOWN_COLUMN = 1064, 1054
AT_ONCE = 800
"""Values in one statement."""

CHARSETS = [
    "big5",
    "cp932",
    "gbk",
    "sjis",
    "eucjpms",
    "euckr",
    "gb2312",
    "ujis",
    "utf8mb4",
    "utf8mb3",
    "ascii",
    "binary",
    "armscii8",
    "cp1250",
    "cp1251",
    "cp1256",
    "cp1257",
    "cp850",
    "cp852",
    "cp866",
    "dec8",
    "geostd8",
    "greek",
    "hebrew",
    "hp8",
    "keybcs2",
    "koi8r",
    "koi8u",
    "latin1",
    "latin2",
    "latin5",
    "latin7",
    "macce",
    "macroman",
    "swe7",
    "tis620",
]
OF_SEVERAL_BYTES = 7
PAIRS = int(os.environ.get("MAILMAPD_BYTE_PAIRS", "12000"))
"""How many of the 196 608 inputs of a character set of several bytes one run tries, chosen at random."""


def connected(server: MariaDB, mode: str, charset: str = "latin1") -> Any:
    connection = server.connect(client_flag=0)
    with connection.cursor() as cursor:
        cursor.execute(f"SET NAMES {charset}, sql_mode = '{mode}'")
    return connection


def reply(connection: Any, sql: bytes) -> list[tuple[Any, ...]] | int:
    """Return the rows of a statement, or the error's number."""
    try:
        connection._execute_command(3, sql)
        connection._read_query_result()
    except pymysql.err.MySQLError as error:
        return int(error.args[0])
    return list(connection._result.rows)


def is_one_value(text: str, rules: Rules) -> bool:
    """Tell whether we read a text as strings and comments only, with nothing left open."""
    lexer = SqlLexer(rules)
    strings = 0
    for place, part in lexer.read(text + "\n"):
        if place is Place.CODE and part.strip():
            return False
        strings += place.is_string
    return lexer.place is Place.CODE and strings > 0


@pytest.mark.parametrize("mode", ["", "NO_BACKSLASH_ESCAPES"])
def test_texts(mariadb: MariaDB, mode: str) -> None:
    """A random text of quotes, backslashes and comments is one value for the server exactly when it is one for us."""
    rng = random.Random(SEED)
    rules = Rules(backslashes=not mode)
    parts = ["'", "'", '"', '"', "\\", "\\", ".", " ", "-- ", "--.", "#", "/*", "*/", "\n"]
    connection = connected(mariadb, mode)
    values = 0
    for number in range(TEXTS):
        text = "".join(rng.choices(parts, k=rng.randrange(1, 12)))
        if number % 2:
            quote = rng.choice("'\"")
            text = quote + text + quote + rng.choice(["", " -- 4'4", " # 4'4", "/* 4'4 */"])
        rows = reply(connection, f"SELECT {text}\n, 'mark'".encode())
        accepted = isinstance(rows, list) and len(rows[0]) == 2 and rows[0][1] in ("mark", b"mark")
        assert is_one_value(text, rules) == accepted, (SEED, text, rows)
        values += accepted
    connection.close()
    assert values > TEXTS / 20


def test_names_with_ansi_quotes(mariadb: MariaDB) -> None:
    """With ANSI_QUOTES a backslash in double quotes is a letter of a name, for the server and for us."""
    rng = random.Random(SEED)
    connection = connected(mariadb, "ANSI_QUOTES")
    for _ in range(TEXTS // 3):
        text = '"' + "".join(rng.choices(['"', "\\", "x", "'"], k=rng.randrange(1, 8))) + 'x"'
        lexer = SqlLexer(Rules(ansi_quotes=True))
        spans = [place for place, part in lexer.read(text)]
        ours = spans == [Place.DOUBLE] and lexer.place is Place.CODE
        rows = reply(connection, f"SELECT 1 AS {text}, 2".encode())
        assert ours == (isinstance(rows, list) and len(rows[0]) == 2), (SEED, text, rows)
    connection.close()


def pairs(charset: str) -> Iterator[bytes]:
    """Yield what might swallow a quote: every pair of bytes (every byte, in sets of one byte) before quotes."""
    firsts = range(256) if charset in CHARSETS[:OF_SEVERAL_BYTES] else (0x5C, 0x27, 0xC3)
    for first in firsts:
        for second in range(256):
            before = bytes([first, second])
            yield before
            yield before + b"' OR 1=1 -- "
            yield before + b"\\' OR 1=1 -- "


@pytest.mark.parametrize("mode", ["", "NO_BACKSLASH_ESCAPES"])
@pytest.mark.parametrize("charset", CHARSETS)
def test_every_pair_of_bytes(mariadb: MariaDB, charset: str, mode: str) -> None:
    """Any pair of bytes before a quote stays one string, in each character set that a connection may have."""
    quote = make_quote(charset, no_backslash_escapes=bool(mode))
    connection = connected(mariadb, mode, charset)
    values = list(pairs(charset))
    if charset in CHARSETS[:OF_SEVERAL_BYTES]:
        values = random.Random(SEED).sample(values, min(PAIRS, len(values)))
    for start in range(0, len(values), AT_ONCE):
        some = values[start : start + AT_ONCE]
        columns = b",".join([b"1='" + quote(value) + b"' AS a,7 AS b" for value in some])
        rows = reply(connection, b"SELECT " + columns)
        assert isinstance(rows, list), (SEED, charset, rows, suspect(connection, quote, some))
        assert len(rows[0]) == 2 * len(some), suspect(connection, quote, some)
        assert set(rows[0][1::2]) == {"7"} or set(rows[0][1::2]) == {7}
    connection.close()


def suspect(connection: Any, quote: Any, values: list[bytes]) -> list[bytes]:
    """Return the values that are no string of their own."""
    return [
        value
        for value in values
        if not isinstance(reply(connection, b"SELECT 1='" + quote(value) + b"' AS a"), list)
    ][:5]


def test_a_character_set_without_proof() -> None:
    """A character set that no server here can prove our quoting for is refused when the configuration is read."""
    with pytest.raises(ValueError, match="gb18030: a backslash can be part of a character"):
        check_settings(MysqlSettings(charset="gb18030"))
