from __future__ import annotations

import pytest

from mailmapd.databases.interface import outcome_of
from mailmapd.databases.mysql.errors import Blame, judge
from mailmapd.databases.mysql.wire import ServerError
from mailmapd.errors import DatabaseError, DatabaseUnavailable, DataError, SchemaError
from mailmapd.template.statement import Statement, Value

STATEMENT = Statement(
    "mailbox",
    (b"SELECT maildir FROM mailbox WHERE username = '", Value(b"secret@example.com"), b"'"),
)


@pytest.mark.parametrize(
    ("code", "blame", "kind"),
    [
        *[
            (code, Blame.CONNECTION, DatabaseUnavailable)
            for code in (1040, 1045, 1049, 1053, 1129, 1130, 1203, 1927, 3169, 4031)
        ],
        *[(code, Blame.HOST, DatabaseUnavailable) for code in (1047, 1226, 3032, 3168)],
        *[(code, Blame.TIMEOUT, DatabaseUnavailable) for code in (1205, 1213, 1317, 1969, 3024)],
        *[
            (code, Blame.DATA, DataError)
            for code in (
                1242,
                1267,
                1270,
                1271,
                1292,
                1300,
                1366,
                1406,
                1690,
                3636,
                3684,
                3691,
                3700,
                3854,
            )
        ],
        *[
            (code, Blame.SCHEMA, SchemaError)
            for code in (1054, 1064, 1142, 1143, 1146, 1305, 1356, 1370, 1792, 3065, 3554, 3995)
        ],
        (9999, Blame.UNKNOWN, DatabaseError),
    ],
)
def test_blame(code: int, blame: Blame, kind: type[DatabaseError]) -> None:
    """Each number blames the connection, the host, the key, the table or nobody, and names host and number."""
    verdict = judge(ServerError(code, "text"), STATEMENT, "db1:3306")
    assert verdict.blame is blame
    assert type(verdict.error) is kind
    assert verdict.error.host == "db1:3306"
    assert str(verdict.error).startswith("db1:3306: ")
    assert f"error {code}" in str(verdict.error)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (1064, "You have an error in your SQL syntax near 'secret@example.com' at line 1"),
        (1292, "Truncated incorrect DOUBLE value: 'secret@example.com'"),
        (1366, "Incorrect string value: 'secret' for column"),
        (1054, "Unknown column 'secret' in 'where clause'"),
        (9999, "Something about 'secret'"),
    ],
)
def test_values_hidden(code: int, text: str) -> None:
    """What a client sent is not repeated, even where the server repeats it."""
    assert "secret" not in str(judge(ServerError(code, text), STATEMENT, "db1").error)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (1054, "Unknown column 'username' in 'WHERE'"),
        (1146, "Table 'mail.mailbox' doesn't exist"),
        (1142, "SELECT command denied to user 'mail'@'localhost' for table `mail`.`mailbox`"),
    ],
)
def test_names_shown(code: int, text: str) -> None:
    """Names that the template itself uses are shown, so that the mistake can be found."""
    assert text in str(judge(ServerError(code, text), STATEMENT, "db1").error)


@pytest.mark.parametrize(
    ("name", "blame", "kind"),
    [("archive", Blame.SCHEMA, SchemaError), ("mail", Blame.CONNECTION, DatabaseUnavailable)],
)
def test_unknown_database(name: str, blame: Blame, kind: type[DatabaseError]) -> None:
    """An unknown database is the table's fault when its query names it, else the connection's, whose own has gone."""
    query = Statement(
        "mailbox", (b"SELECT maildir FROM archive.mailbox WHERE username = '", Value(b"mail"), b"'")
    )
    verdict = judge(ServerError(1049, f"Unknown database '{name}'"), query, "db1")
    assert verdict.blame is blame
    assert type(verdict.error) is kind
    assert f"Unknown database '{name}' (error 1049)" in str(verdict.error)


def test_outcomes() -> None:
    """Every kind of failure has its word for the observer."""
    kinds = (DataError, SchemaError, DatabaseUnavailable, DatabaseError)
    assert [outcome_of(kind("x")) for kind in kinds] == [
        "data_error",
        "schema_error",
        "unavailable",
        "error",
    ]
