"""Statements that are logged as text: what they touch is never less than what they may change."""

from __future__ import annotations

import pytest

from mailmapd.changes.readers import Readers
from mailmapd.changes.selection import Selection
from mailmapd.changes.touched import Touched
from mailmapd.databases.mysql.binlog.events import StatementLogged


def touched_by(sql: str, readers: Readers | None = None) -> Touched:
    touched = Touched()
    Selection(readers or Readers()).add(StatementLogged("t", sql, 1), touched)
    return touched


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE x (a INT) " + "/* " * 30_000,
        "CREATE TABLE x (a INT COMMENT '" + "x" * 70_000 + "')",
        "CREATE OR REPLACE VIEW v AS SELECT 1",
        "CREATE OR REPLACE /* all */ ALGORITHM = MERGE VIEW v AS SELECT '*/'",
        "ALTER DEFINER = 'a/*b' VIEW v AS SELECT '*/'",
        "/* of a program */ INSERT INTO x VALUES (1)",
        "SELECT `m`.`f`(1)",
        "DO f()",
        "ANALYZE UPDATE x SET a = 1",
        "/*M! TRUNCATE x */",
        "CREATE OR REPLACE DATABASE m",
        "# why\nXA COMMIT 'x'",
    ],
)
def test_everything(sql: str) -> None:
    """What is too long to be read, names a view anywhere, or writes rows, touches everything."""
    assert touched_by(sql).everything


@pytest.mark.parametrize(
    "sql",
    [
        *("CREATE TABLE x (a INT)", "DROP TABLE x /* for ever", "BEGIN", "# nothing", ""),
        *("# why\nTRUNCATE x", "ANALYZE LOCAL TABLE x", "FLUSH TABLES x"),
    ],
)
def test_not_everything(sql: str) -> None:
    """Other statements touch the tables that they name."""
    assert not touched_by(sql).everything


def test_a_view_by_its_name() -> None:
    """A statement that names a view touches everything, because RENAME does not say that it is one."""
    readers = Readers(views={"v"})
    assert touched_by("RENAME TABLE v TO u, w TO v", readers).everything
    assert not touched_by("RENAME TABLE a TO b", readers).everything
