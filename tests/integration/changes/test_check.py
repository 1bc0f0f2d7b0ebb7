"""`check` on real servers: whether they can be followed, what to do if not, and what changes drop."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from mailmapd.changes import feed as feed_module
from mailmapd.changes.feed import Feed
from mailmapd.check.freshness import Drop, demanded_findings, freshness
from mailmapd.check.run import check
from mailmapd.cli import mailmapd
from mailmapd.config.loader import load_config
from mailmapd.databases.settings import ChangesSettings
from mailmapd.model import Found
from mailmapd.plan.assembly import plan
from support.followed import LOGGED
from support.followed_engine import BOTH, FollowedEngine, following
from support.guide import blocks, page
from support.mariadb import MariaDB, private_directory
from support.polling import until
from support.sql_server import SqlServer

pytestmark = [pytest.mark.servers, pytest.mark.root]

QUERIES = {
    "alias": "SELECT goto FROM alias WHERE address = '%s' AND active = 1",
    "joined": "SELECT goto FROM alias, domain WHERE address = '%s' AND alias.domain = domain.domain AND domain.active = 1",
    "of_domain": "SELECT MAX(goto) FROM alias WHERE domain = '%d' AND address <> '%s'",
    "clock": "SELECT goto FROM alias WHERE address = '%s' AND NOW() > '2020-01-01'",
}


@pytest.fixture
def config(mariadb: MariaDB, tmp_path: Path) -> Path:
    return make_config(mariadb, tmp_path)


def make_config(server: SqlServer, folder: Path) -> Path:
    """Make a database with an account that may only ask, and write a configuration for it."""
    server.run_sql(
        "DROP DATABASE IF EXISTS t; CREATE DATABASE t;"
        "CREATE TABLE t.domain (domain VARCHAR(99) PRIMARY KEY, active INT);"
        "CREATE TABLE t.alias (address VARCHAR(99) PRIMARY KEY, goto TEXT, domain VARCHAR(99), active INT, hits INT,"
        " FOREIGN KEY (domain) REFERENCES t.domain (domain) ON DELETE CASCADE)"
    )
    server.grant("mail", "p", "t", "SELECT")
    path = folder / "mailmapd.toml"
    tables = "".join(
        f'[table.{name}]\ndatabase = "mail"\nquery = "{query}"\n[map.{name}]\ntables = ["{name}"]\n'
        for name, query in QUERIES.items()
    )
    path.write_text(
        f'[listen]\nsocketmap = ["unix:{folder}/s"]\n[database.mail]\ndriver = "mysql"\n'
        f'hosts = ["unix:{server.socket}"]\nuser = "mail"\npassword = "p"\ndbname = "t"\n{tables}'
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


async def test_another_account(mariadb: MariaDB, config: Path) -> None:
    """Where the log is read by an account of its own, that is the one to grant the privilege to."""
    mariadb.run_sql("DROP USER IF EXISTS 'other'@'localhost'")
    mariadb.run_sql("CREATE USER 'other'@'localhost' IDENTIFIED BY 'o'")
    with config.open("a") as file:
        file.write('[database.mail.changes]\nuser = "other"\npassword_file = "other"\n')
    config.with_name("other").write_text("o")
    [host] = (await freshness(plan(load_config(str(config)))))[0].hosts
    assert host.remedy == "GRANT REPLICATION SLAVE ON *.* TO 'other'@'localhost';"
    mariadb.run_sql(host.remedy)
    [host] = (await freshness(plan(load_config(str(config)))))[0].hosts
    assert host.fault == ""


@pytest.mark.parametrize(
    ("section", "excess"),
    [
        ('follow = "auto"\n', []),
        ('user = "other"\npassword_file = "other"\n', ["REPLICATION SLAVE"]),
        ('follow = "no"\n', ["BINLOG MONITOR, REPLICATION SLAVE"]),
    ],
)
async def test_privileges_that_are_needed(
    mariadb: MariaDB, config: Path, section: str, excess: list[str]
) -> None:
    """The privileges that `check` advises are none too many: reading the log, for the account that
    does, and seeing its filters, for that of the queries. Where nothing is followed, both are.
    """
    mariadb.run_sql("GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO mail@localhost")
    with config.open("a") as file:
        file.write(f"[database.mail.changes]\n{section}")
    config.with_name("other").write_text("o")
    findings = [finding async for finding in check(plan(load_config(str(config))), None)]
    said = [finding.problem for finding in findings if finding.code == "privileges"]
    assert [problem.partition(": ")[2] for problem in said] == excess


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


class Wrong(NamedTuple):
    """Something that is wrong with a server: how it becomes so, and right again, and what is said."""

    make: str
    mend: str
    said: str
    is_fault: bool = True


WRONG = [
    Wrong(
        "binlog_format = STATEMENT",
        "binlog_format = ROW",
        "binlog_format is STATEMENT, which logs statements, not rows; set binlog_format = ROW",
    ),
    Wrong(
        "binlog_format = MIXED",
        "binlog_format = ROW",
        "binlog_format is MIXED, which logs statements, not rows; set binlog_format = ROW",
    ),
    Wrong(
        "TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
        "TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "the account's sessions have the isolation level READ-UNCOMMITTED: they see rows that are rolled back later, "
        "of which the log says nothing; set transaction_isolation = REPEATABLE-READ or READ-COMMITTED",
    ),
    Wrong(
        "binlog_row_image = NOBLOB",
        "binlog_row_image = FULL",
        "binlog_row_image is NOBLOB: a change that does not log the column of the key drops all of a table; "
        "FULL drops the key alone",
        is_fault=False,
    ),
    Wrong(
        "binlog_expire_logs_seconds = 129600",
        "binlog_expire_logs_seconds = 2592000",
        "the log is kept for 1.5 days",
        is_fault=False,
    ),
    Wrong(
        "binlog_expire_logs_seconds = 0",
        "binlog_expire_logs_seconds = 2592000",
        "the log is kept until somebody purges it",
        is_fault=False,
    ),
]
MYSQL_WRONG = [
    Wrong(
        "binlog_order_commits = OFF",
        "binlog_order_commits = ON",
        "so that a change may be visible later than one that is logged behind it; set binlog_order_commits = ON",
    ),
    Wrong(
        "gtid_mode = ON_PERMISSIVE",
        "gtid_mode = ON",
        "gtid_mode is ON_PERMISSIVE, and without it the server cannot prove that a change is visible; "
        "set gtid_mode = ON and enforce_gtid_consistency = ON",
    ),
]


@BOTH
async def test_each_thing_wrong(server: SqlServer, tmp_path: Path) -> None:
    """Whatever is wrong with a server is said with the setting that helps, and so is a privilege that lacks."""
    path = str(make_config(server, tmp_path))
    [host] = (await freshness(plan(load_config(path))))[0].hosts
    assert host.remedy == "GRANT REPLICATION SLAVE ON *.* TO 'mail'@'localhost';"
    server.run_sql(host.remedy)
    is_mariadb = isinstance(server, MariaDB)
    monitor = "BINLOG MONITOR" if is_mariadb else "REPLICATION CLIENT"
    [host] = (await freshness(plan(load_config(path))))[0].hosts
    assert host.fault == ""
    assert any(f"GRANT {monitor} ON *.*, and it is not followed" in note for note in host.notes)
    server.run_sql(f"GRANT {monitor} ON *.* TO mail@localhost")
    for wrong in WRONG + ([] if is_mariadb else MYSQL_WRONG):
        server.run_sql(f"SET GLOBAL {wrong.make}")
        try:
            [host] = (await freshness(plan(load_config(path))))[0].hosts
        finally:
            server.run_sql(f"SET GLOBAL {wrong.mend}")
        assert wrong.said in (host.fault if wrong.is_fault else host.notes) or host.fault.endswith(
            wrong.said
        ), (wrong, host)
    [host] = (await freshness(plan(load_config(path))))[0].hosts
    assert (host.fault, host.notes) == ("", ["the log is kept for 30 days"])


async def test_without_a_log(tmp_path: Path) -> None:
    """A server that writes no log is told to."""
    with private_directory() as folder, MariaDB(folder) as server:
        path = str(make_config(server, tmp_path))
        [host] = (await freshness(plan(load_config(path))))[0].hosts
    assert host.fault.endswith("the server writes no binary log; set log_bin")


async def test_as_the_page_says(tmp_path: Path) -> None:
    """With the settings, the account and the section of docs/freshness.md a server is followed, and
    `check` finds nothing in the privileges.
    """
    found = blocks(page("freshness"))
    [file] = [text for _, text in found if "[mysqld]" in text]
    lines = file.partition("[mysqld]\n")[2].partition("END\n")[0].splitlines()
    settings = [f"--{line.replace(' ', '')}" for line in lines]
    [account] = [text for kind, text in found if kind == "sql"]
    [section] = [text for kind, text in found if text.startswith("[database.mail.changes]")]
    with private_directory() as folder, MariaDB(folder, settings=settings) as server:
        path = make_config(server, tmp_path)
        server.run_sql(account)
        with path.open("a") as config:
            config.write(section)
        path.with_name("mail-db-changes-password").write_text("another long random password")
        planned = plan(load_config(str(path)))
        [host] = (await freshness(planned))[0].hosts
        assert host.fault == ""
        codes = [finding.code async for finding in check(planned, None)]
        assert "privileges" not in codes


@pytest.mark.parametrize(
    ("option", "noted"),
    [
        ("--binlog-do-db=other", "binlog_do_db is other"),
        ("--binlog-ignore-db=t", "binlog_ignore_db is t"),
    ],
)
async def test_filters(tmp_path: Path, option: str, noted: str) -> None:
    """What the log leaves out is not followed where the account may see that, and answers have the ordinary time."""
    with private_directory() as folder, MariaDB(folder, settings=(*LOGGED, option)) as server:
        path = str(make_config(server, tmp_path))
        server.run_sql("GRANT BINLOG MONITOR, REPLICATION SLAVE ON *.* TO mail@localhost")
        [found] = await freshness(plan(load_config(path)))
        assert f"{noted}: tables that it leaves out are not followed" in found.hosts[0].notes
        reason = (
            "t.alias is in a database that binlog_do_db or binlog_ignore_db leave out of the log"
        )
        assert found.not_followed["alias"] == reason
        async with following(server, tmp_path, ChangesSettings(), ALIAS) as bench:
            [feed] = bench.database.feeds
            await until(lambda: feed.alive)
            assert feed.readers.not_followed == {"alias": reason}
            await answers_as_ever(server, bench)


@pytest.mark.parametrize("wrong", ["privilege", "format"])
async def test_says_so_once(
    mariadb: MariaDB,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wrong: str,
) -> None:
    """Without the privilege, or with another format, it starts, says so once, and answers as without."""
    monkeypatch.setattr(feed_module, "RETRY_UNFIT", 0.05)
    caplog.set_level("INFO", "mailmapd.changes.feed")
    make_config(mariadb, tmp_path)
    said = "the account may not read the log"
    if wrong == "format":
        mariadb.run_sql("GRANT REPLICATION SLAVE ON *.* TO mail@localhost")
        mariadb.run_sql("SET GLOBAL binlog_format = STATEMENT")
        said = "set binlog_format = ROW"
    tries = 0
    lose = Feed._lose

    def counted(feed: Feed, reason: str) -> None:
        nonlocal tries
        tries += 1
        lose(feed, reason)

    monkeypatch.setattr(Feed, "_lose", counted)
    try:
        async with following(mariadb, tmp_path, ChangesSettings(), ALIAS) as bench:
            await until(lambda: tries > 2)
            assert said in bench.database.feeds[0].reason
            await answers_as_ever(mariadb, bench)
    finally:
        mariadb.run_sql("SET GLOBAL binlog_format = ROW")
    lines = [each.getMessage() for each in caplog.records if "not followed" in each.getMessage()]
    assert len(lines) == 1, lines
    assert said in lines[0]


ALIAS = {"alias": QUERIES["alias"]}


async def answers_as_ever(server: SqlServer, bench: FollowedEngine) -> None:
    """Check that an answer is kept for the ordinary time."""
    server.run_sql("INSERT INTO t.domain VALUES ('d', 1)")
    server.run_sql("INSERT INTO t.alias VALUES ('a', 'one', 'd', 1, 0)")
    assert await bench.ask("alias", b"a") == Found(b"one")
    entry = bench.engine.tables["alias"].cache.peek(b"a")
    assert entry is not None
    assert entry[1] < time.monotonic() + 301
