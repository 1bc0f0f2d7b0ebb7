"""Values reach the server as they are, whatever the connection's character set and the SQL mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from mailmapd.errors import DataError
from support.mariadb import MariaDB
from support.mysql_lookups import DBNAME, HOSTILE, MODES, Connect, mailbox, settings_for, statement

CHARSETS = [
    "utf8mb4",
    "utf8",
    "latin1",
    "binary",
    "gbk",
    "big5",
    "sjis",
    "cp932",
    "gb2312",
    "ujis",
    "euckr",
]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest, lookup_server: MariaDB) -> Iterator[str]:
    """Run with a global SQL mode; restored afterwards."""
    before = lookup_server.run_sql("SELECT @@GLOBAL.sql_mode")[0][0]
    lookup_server.run_sql("SET GLOBAL sql_mode = %s", request.param)
    yield request.param
    lookup_server.run_sql("SET GLOBAL sql_mode = %s", before)


@pytest.mark.parametrize("charset", CHARSETS)
async def test_hostile_keys(
    lookup_server: MariaDB, connect: Connect, mode: str, charset: str
) -> None:
    """A hostile key is one string for the server, in every mode and character set.

    Never a syntax error, never a second row.
    """
    database = connect(settings_for(lookup_server, charset=charset))
    for key in HOSTILE:
        # The comparison is bytewise, so that no collation can refuse it; the length tells whether
        # the string ended where it should.
        query = statement(
            "SELECT '%s', LENGTH(_binary'%s') FROM mailbox WHERE BINARY '%s' = BINARY username OR maildir = ''",
            key,
            key,
            key,
        )
        with suppress(
            DataError
        ):  # the server may find the bytes invalid; anything else it may not say
            assert len((await database.fetch(query)).rows) == 1, (mode, charset, key)


@pytest.mark.parametrize("charset", ["utf8mb4", "latin1", "binary"])
async def test_round_trip(
    lookup_server: MariaDB, connect: Connect, mode: str, charset: str
) -> None:
    """In character sets without surprises every key that is valid in them comes back byte by byte."""
    database = connect(settings_for(lookup_server, charset=charset))
    for key in HOSTILE:
        if charset == "utf8mb4" and key.decode(errors="replace").encode() != key:
            continue
        assert (await database.fetch(statement("SELECT '%s'", key))).rows == ((key,),), (
            mode,
            charset,
            key,
        )


async def test_mode_changed_within_session(lookup_server: MariaDB, connect: Connect) -> None:
    """A session whose SQL mode changes is quoted for as it is from then on."""
    lookup_server.run_sql(
        "CREATE OR REPLACE PROCEDURE turn() BEGIN SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'; SELECT 1; END",
        database=DBNAME,
    )
    database = connect(settings_for(lookup_server, pool_size=1))
    assert database.describe(mailbox(b"a\\b")).endswith(r"'a\\b'")
    await database.fetch(statement("CALL turn()"))
    await database.fetch(
        statement("SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'", require_result_set=False)
    )
    assert (await database.fetch(statement("SELECT '%s'", b"a\\'b"))).rows == ((b"a\\'b",),)
    assert database.describe(mailbox(b"a\\'b")).endswith(r"'a\''b'")
    lookup_server.run_sql("DROP PROCEDURE turn", database=DBNAME)


async def test_charset_of_results(lookup_server: MariaDB, connect: Connect) -> None:
    """Results and column names come in the connection's character set, as with Postfix's charset parameter."""
    result = await connect(settings_for(lookup_server, charset="latin1")).fetch(
        statement("SELECT _utf8mb4 X'C3BC' AS `\xfc`".encode("latin1"))
    )
    assert (result.columns, result.rows) == (("ü",), ((b"\xfc",),))


def test_impossible_charset(lookup_server: MariaDB, connect: Connect) -> None:
    """A character set that no connection can have is refused with what to write."""
    with pytest.raises(ValueError, match="utf8mb4"):
        connect(settings_for(lookup_server, charset="utf16"))
