"""Rows, and statements that are logged as text: what they touch is never less than what they may change."""

from __future__ import annotations

import pytest

from mailmapd.changes.catalog import Catalog
from mailmapd.changes.readers import Readers, find_readers
from mailmapd.changes.selection import Selection
from mailmapd.changes.touched import Touched
from mailmapd.databases.mysql.binlog.events import (
    ABSENT,
    Change,
    Image,
    Kind,
    RowsChanged,
    StatementLogged,
)
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.provenance.reading import Column
from mailmapd.template.mysql_table import MysqlTable

COLUMNS = {
    "address": Column(0, "varchar", "utf8mb4_general_ci"),
    "goto": Column(1, "text", "utf8mb4_general_ci"),
}


def of_query(sql: bytes) -> Readers:
    """Return the readers of a table whose query this is."""
    catalog = Catalog({("t", "alias"): COLUMNS}, {}, {("t", "alias"): ""})
    definition = PostfixDefinition(MysqlTable.compile("aliases", sql))
    return find_readers({"aliases": definition}, catalog, "t")


def touched_by(sql: str, readers: Readers | None = None) -> Touched:
    touched = Touched()
    Selection(readers or Readers()).add(StatementLogged("t", sql, 1), touched)
    return touched


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE x (a INT) " + "/* " * 30_000,
        "CREATE TABLE x (a INT COMMENT '" + "x" * 70_000 + "')",
        "CREATE TABLE x (a INT COMMENT '" + "x" * 9_000 + "')",
        "DROP TABLE x " + "#\n" * 1100,
        "DROP TABLE x " + "'" * 1100,
        " " * 70_000,
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
        "CREATE TABLE x (" + "`a` INT, " * 400 + "`b` INT)",
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


ROW_CHANGES = [  # before, after, and whose keys are forgotten; address and goto are read
    (None, (b"a@b", b"x"), {b"a@b"}),
    ((b"a@b", b"x"), None, {b"a@b"}),
    ((b"a@b", b"x"), (b"a@b", b"x"), set()),
    ((b"a@b", b"x"), (b"A@B ", b"y"), {b"a@b"}),
    ((b"a@b", b"x"), (b"c@d", b"x"), {b"a@b", b"c@d"}),
    ((b"a@b", b"x"), (ABSENT, b"y"), {b"a@b"}),
    ((b"a@b", b"x"), (ABSENT, ABSENT), set()),
    ((b"a@b", None), (None, None), {b"a@b"}),
    ((b"a@b", b"x"), (b"no-address", b"x"), {b"a@b"}),
]


@pytest.mark.parametrize(("before", "after", "keys"), ROW_CHANGES)
@pytest.mark.parametrize("where", [b"address = '%u@%d'", b"address = '%s'"])
def test_rows(where: bytes, before: Image | None, after: Image | None, keys: set[bytes]) -> None:
    """A change of a row names the keys that it fitted and those that it fits now, if it changes what is read."""
    selection = Selection(of_query(b"SELECT goto FROM alias WHERE " + where))
    touched = Touched()
    selection.add(RowsChanged("t", "alias", Kind.UPDATE, [Change(before, after)], 1), touched)
    if b"%s" in where and after and after[0] == b"no-address":
        keys = {*keys, b"no-address"}
    assert touched == Touched(keys={"aliases": keys} if keys else {})
