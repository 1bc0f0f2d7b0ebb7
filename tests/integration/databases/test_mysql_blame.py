"""An error stays with the key, the table or the host that is at fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mailmapd.errors import DatabaseError, DatabaseUnavailable, DataError, SchemaError
from support.daemon import Daemon
from support.mariadb import MariaDB
from support.mysql_lookups import (
    DBNAME,
    PASSWORD,
    USER,
    Connect,
    Record,
    mailbox,
    settings_for,
    statement,
)


async def test_collation_stays_with_key(
    lookup_server: MariaDB, connect: Connect, record: Record
) -> None:
    """A key that the server cannot compare fails alone.

    The next key is answered on the same connection, the host stays up.
    """
    database = connect(settings_for(lookup_server, pool_size=1))
    sql = "SELECT maildir FROM old WHERE username = '%s'"
    await database.fetch(statement(sql, b"user@example.com"))
    before = lookup_server.connections(USER)
    with pytest.raises(DataError, match=r"illegal mix of collations \(error 1267\)") as caught:
        await database.fetch(statement(sql, "user😀@example.com".encode(), table="old"))
    assert "table old" in str(caught.value)
    assert (await database.fetch(statement(sql, b"user@example.com"))).rows == ((b"old/user/",),)
    assert lookup_server.connections(USER) == before
    assert record.states == []
    assert [outcome for _, outcome in record.queries] == ["ok", "data_error", "ok"]


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT user_mail FROM mailbox", SchemaError),
        ("SELECT 1 FROM mailbx", SchemaError),
        ("SELEC 1", SchemaError),
        ("SELECT 1 FROM mysql.user", SchemaError),
        ("CALL nothing()", SchemaError),
        ("SELECT nothing(1)", SchemaError),
        ("SELECT 1 UNION SELECT 1, 2", SchemaError),
        ("SELECT (SELECT username FROM mailbox)", DataError),
        ("SELECT 'a' REGEXP '('", DataError),
        ("SELECT 18446744073709551615 + 1", DataError),
        ("SELECT CONVERT('x' USING utf8mb4) = _latin1 X'FF' COLLATE latin1_bin", DataError),
        ("KILL QUERY CONNECTION_ID()", DatabaseUnavailable),
    ],
)
async def test_kinds(
    lookup_server: MariaDB, connect: Connect, record: Record, sql: str, kind: type[DatabaseError]
) -> None:
    """The server's own refusals are blamed as documented, and none takes the host down."""
    database = connect(settings_for(lookup_server, read_only=False, pool_size=1))
    with pytest.raises(kind) as caught:
        await database.fetch(statement(sql))
    assert type(caught.value) is kind
    assert record.states == []
    assert (await database.fetch(mailbox(b"user@example.com"))).rows == ((b"example.com/user/",),)


@pytest.mark.parametrize(
    ("sql", "value", "kind"),
    [
        ("SELECT maildir FROM mailbox WHERE quota = %s", b"root", DataError),
        ("SELECT maildir FROM mailbox WHERE quota = %s", b"", DataError),
        ("SELECT maildir FROM mailbox WHERE quota = %s", b"select", DataError),
        ("SELECT maildir FROM `%s`", b"nobody", DataError),
        ("SELECT nope FROM mailbox WHERE quota = %s", b"1024", SchemaError),
        ("SELECT nope FROM mailbox WHERE username = '%s'", b"nope", SchemaError),
    ],
)
async def test_value_outside_strings(
    lookup_server: MariaDB, connect: Connect, sql: str, value: bytes, kind: type[DatabaseError]
) -> None:
    """Where a value stands outside strings and makes a column, table or mistake of itself, it fails
    alone and not its table.
    """
    with pytest.raises(kind) as caught:
        await connect(settings_for(lookup_server)).fetch(statement(sql, value))
    assert type(caught.value) is kind


CHECKED = """
[listen]
socketmap = ["unix:{folder}/socketmap"]
[database.mail]
driver = "mysql"
hosts = ["unix:{server.socket}"]
user = "{user}"
password = {password}
dbname = "{dbname}"
[table.odd]
database = "mail"
query = "SELECT maildir FROM mailbox WHERE may_use_%u = 1"
[table.wrong]
database = "mail"
query = "SELECT nope FROM mailbox WHERE username = '%s'"
[map.mailboxes]
tables = ["odd", "wrong"]
search = "exact"
"""


def test_check_goes_on(lookup_server: MariaDB, tmp_path: Path) -> None:
    """`check` names a query that is refused for what a value makes of it, and goes on to the next."""
    config = CHECKED.format(
        folder=tmp_path,
        server=lookup_server,
        user=USER,
        password=json.dumps(PASSWORD),
        dbname=DBNAME,
    )
    done = Daemon(tmp_path, config).command("check", "--format", "json")
    found = {(finding["code"], finding["where"]) for finding in json.loads(done.stdout)}
    assert {("query_refused", "table odd"), ("unknown_column", "table wrong")} <= found


async def test_table_renamed_away(lookup_server: MariaDB, connect: Connect) -> None:
    """A table that disappears and returns fails as a schema error in between, and by itself works again."""
    lookup_server.run_sql("CREATE OR REPLACE TABLE moving AS SELECT 1 AS one", database=DBNAME)
    database = connect(settings_for(lookup_server))
    assert (await database.fetch(statement("SELECT one FROM moving"))).rows == ((b"1",),)
    lookup_server.run_sql("RENAME TABLE moving TO moved", database=DBNAME)
    with pytest.raises(SchemaError, match=r"lookups\.moving' doesn't exist"):
        await database.fetch(statement("SELECT one FROM moving"))
    lookup_server.run_sql("RENAME TABLE moved TO moving", database=DBNAME)
    assert (await database.fetch(statement("SELECT one FROM moving"))).rows == ((b"1",),)
