"""`check` on real servers: whether they can be followed, what to do if not, and what changes drop."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mailmapd.check.freshness import Drop, demanded_findings, freshness
from mailmapd.cli import mailmapd
from mailmapd.config.loader import load_config
from mailmapd.plan.assembly import plan
from support.mariadb import MariaDB

pytestmark = [pytest.mark.servers, pytest.mark.root]

QUERIES = {
    "alias": "SELECT goto FROM alias WHERE address = '%s' AND active = 1",
    "joined": "SELECT goto FROM alias, domain WHERE address = '%s' AND alias.domain = domain.domain AND domain.active = 1",
    "of_domain": "SELECT MAX(goto) FROM alias WHERE domain = '%d' AND address <> '%s'",
    "clock": "SELECT goto FROM alias WHERE address = '%s' AND NOW() > '2020-01-01'",
}


@pytest.fixture
def config(mariadb: MariaDB, tmp_path: Path) -> Path:
    mariadb.run_sql(
        "DROP DATABASE IF EXISTS t; CREATE DATABASE t;"
        "CREATE TABLE t.domain (domain VARCHAR(99) PRIMARY KEY, active INT);"
        "CREATE TABLE t.alias (address VARCHAR(99) PRIMARY KEY, goto TEXT, domain VARCHAR(99), active INT, hits INT,"
        " FOREIGN KEY (domain) REFERENCES t.domain (domain) ON DELETE CASCADE)"
    )
    mariadb.grant("mail", "p", "t", "SELECT")
    path = tmp_path / "mailmapd.toml"
    tables = "".join(
        f'[table.{name}]\ndatabase = "mail"\nquery = "{query}"\n[map.{name}]\ntables = ["{name}"]\n'
        for name, query in QUERIES.items()
    )
    path.write_text(
        f'[listen]\nsocketmap = ["unix:{tmp_path}/s"]\n[database.mail]\ndriver = "mysql"\n'
        f'hosts = ["unix:{mariadb.socket}"]\nuser = "mail"\npassword = "p"\ndbname = "t"\n{tables}'
    )
    path.chmod(0o640)
    return path


async def test_without_the_privilege(config: Path) -> None:
    """An account that may not read the log is told what to grant; it is a fault only where that is demanded."""
    found = await freshness(plan(load_config(str(config))))
    [host] = found[0].hosts
    assert "the account may not read the log" in host.fault
    assert host.remedy == "GRANT REPLICATION SLAVE ON *.* TO 'mail'@'localhost';"
    assert list(demanded_findings(found)) == []
    with config.open("a") as file:
        file.write('[database.mail.changes]\nfollow = "yes"\n')
    [fault] = demanded_findings(await freshness(plan(load_config(str(config)))))
    assert fault.remedy == host.remedy


async def test_what_changes_drop(mariadb: MariaDB, config: Path) -> None:
    """For each query it is said what a change in each of its tables drops, and why it is not followed."""
    mariadb.run_sql("GRANT REPLICATION SLAVE ON *.* TO mail@localhost")
    mariadb.run_sql("SET GLOBAL binlog_row_image = MINIMAL")
    try:
        [found] = await freshness(plan(load_config(str(config))))
    finally:
        mariadb.run_sql("SET GLOBAL binlog_row_image = FULL")
    [host] = found.hosts
    assert host.fault == ""
    assert any("binlog_row_image is MINIMAL" in note for note in host.notes)
    assert any("cannot be seen" in note for note in host.notes)
    assert found.not_followed == {"clock": "its answer depends on the function NOW()"}
    cascade = ("t.domain", "deleted or renamed rows", "all answers (foreign key)")
    assert found.drops == [
        Drop("alias", "t.alias", "active, address, goto", "its key"),
        Drop("alias", *cascade),
        Drop("joined", "t.alias", "address, domain, goto", "its key"),
        Drop("joined", "t.domain", "active, domain", "keys that a query finds for the row"),
        Drop("joined", *cascade),
        Drop("of_domain", "t.alias", "address, domain, goto", "keys with its domain"),
        Drop("of_domain", *cascade),
    ]


def test_statements(mariadb: MariaDB, config: Path) -> None:
    """A server that logs statements is named with the setting that helps, and the table of drops is printed."""
    mariadb.run_sql("SET GLOBAL binlog_format = STATEMENT")
    try:
        done = CliRunner().invoke(mailmapd, ["check", "--no-postfix", "--config", str(config)])
    finally:
        mariadb.run_sql("SET GLOBAL binlog_format = ROW")
    assert "set binlog_format = ROW" in done.output
    assert "table clock is not followed: its answer depends on the function NOW()" in done.output
    assert "keys that a query finds for the row" in done.output
