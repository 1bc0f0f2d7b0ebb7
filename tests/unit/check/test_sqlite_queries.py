"""SQLite files: what check finds in their queries."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mailmapd.check.run import check
from mailmapd.config.loader import parse_config
from mailmapd.plan.assembly import plan

CONFIG = """
[listen]
socketmap = ["127.0.0.1:2552"]
[database.mail]
driver = "sqlite"
path = "{path}"
[table.alias]
database = "mail"
query = "{query}"
[map.aliases]
tables = ["alias"]
"""


async def findings(path: Path, query: str) -> list[tuple[str, str, str]]:
    """Return what check says about one query to a SQLite file."""
    config = parse_config(CONFIG.format(path=path, query=query), str(path.parent / "mailmapd.toml"))
    return [
        (finding.code, finding.problem, finding.remedy)
        async for finding in check(plan(config), None)
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with an indexed column and one that has no index."""
    path = tmp_path / "mail.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE alias (source TEXT PRIMARY KEY, target TEXT)")
    return path


async def test_a_good_query(path: Path) -> None:
    """A query that uses an index is fine."""
    assert await findings(path, "SELECT target FROM alias WHERE source = '%s'") == []


async def test_no_index(path: Path) -> None:
    """A query that reads every row is named, with the index that it lacks."""
    scan = (
        "missing_index",
        "each query reads all of alias",
        'CREATE INDEX "target_lookup" ON "alias" ("target");',
    )
    assert await findings(path, "SELECT source FROM alias WHERE target = '%s'") == [scan]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT nothere FROM alias WHERE source = '%s'",
        "SELECT 1 FROM nothere WHERE a = '%s'",
        "SELEC b FROM alias WHERE a = '%s'",
    ],
)
async def test_a_wrong_query(path: Path, query: str) -> None:
    """A query that does not fit the file is a fault, and told what SQLite says."""
    ((code, problem, _),) = await findings(path, query)
    assert code == "query_refused"
    assert str(path) in problem


async def test_no_file(tmp_path: Path) -> None:
    """A file that is not there is a fault, and no second one comes of it."""
    ((code, problem, remedy),) = await findings(
        tmp_path / "mail.sqlite", "SELECT a FROM b WHERE c = '%s'"
    )
    assert (code, problem) == ("database", f"{tmp_path}/mail.sqlite: No such file or directory")
    assert "check path" in remedy
