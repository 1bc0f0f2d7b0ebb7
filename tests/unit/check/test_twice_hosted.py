"""Domains that mydestination names and the database hosts."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mailmapd.check.twice_hosted import twice_hosted_findings
from mailmapd.config.loader import parse_config
from mailmapd.plan.assembly import plan

CONFIG = """
[database.mail]
driver = "sqlite"
path = "{path}"
[table.domain]
database = "mail"
query = "SELECT name FROM domain WHERE name = '%s'"
[map.virtual_mailbox_domains]
tables = ["domain"]
[map.hosted]
tables = ["domain"]
[map.other]
tables = ["domain"]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database that hosts example.com and example.net."""
    path = tmp_path / "mail.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE domain (name TEXT PRIMARY KEY)")
        connection.executemany(
            "INSERT INTO domain VALUES (?)", [("example.com",), ("example.net",)]
        )
    return path


@pytest.mark.parametrize(
    ("main_cf", "expected"),
    [
        ("mydestination = localhost, mx.example.org\n", []),
        (
            "mydestination = localhost, Example.com, hash:/etc/x, /etc/y, !example.net\n",
            ["example.com is in mydestination and in the map v"],
        ),
        (
            "mydomain = example.net\nmydestination = $mydomain\n",
            ["example.net is in mydestination and in the map v"],
        ),
        (
            "mydestination = example.com\nvirtual_mailbox_domains = socketmap:unix:x:hosted\n",
            ["example.com is in mydestination and in the map h"],
        ),
        (
            (
                "mydestination = example.com\nrelay_domains = "
                "socketmap:unix:x:other\nvirtual_mailbox_domains = socketmap:unix:x:gone\n"
            ),
            [],
        ),
    ],
)
async def test_domains_that_are_local_and_hosted(
    path: Path, main_cf: str, expected: list[str]
) -> None:
    """A domain that mydestination names is a fault where the map of hosted domains has it, before
    and after the switch.
    """
    (path.parent / "main.cf").write_text(f"myhostname = mx.example.org\n{main_cf}")
    config = parse_config(CONFIG.format(path=path), str(path.parent / "mailmapd.toml"))
    found = [finding async for finding in twice_hosted_findings(plan(config), path.parent)]
    assert [
        finding.problem[: len(text)] for finding, text in zip(found, expected, strict=True)
    ] == expected


async def test_a_database_that_is_away(tmp_path: Path) -> None:
    """Where nobody can tell, nothing is said: the database is a finding of its own."""
    (tmp_path / "main.cf").write_text("mydestination = example.com\n")
    config = parse_config(CONFIG.format(path=tmp_path / "nothere"), str(tmp_path / "mailmapd.toml"))
    assert [finding async for finding in twice_hosted_findings(plan(config), tmp_path)] == []
