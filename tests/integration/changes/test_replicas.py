"""A source and a replica that lags behind it: both are asked, so both are followed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mailmapd.changes import audit, feed, following
from mailmapd.changes.following import Following
from mailmapd.config.loader import load_config
from mailmapd.databases.host_list import HostAddress, parse_hosts
from mailmapd.databases.settings import ChangesSettings, MysqlSettings
from mailmapd.engine.engine import Engine
from mailmapd.plan.assembly import assemble, plan
from support.followed import LOGGED, PASSWORD, REPLICA
from support.mariadb import MariaDB, private_directory
from support.polling import until
from support.replication import OF_A_REPLICA, replicate
from support.settled import feed_is_settled

pytestmark = [pytest.mark.servers, pytest.mark.root]

KEYS = [f"k{number}@example.com" for number in range(40)]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[MariaDB, MariaDB]]:
    """A source, and its replica."""
    with (
        private_directory() as folder,
        private_directory() as other,
        MariaDB(folder, tcp=True, settings=LOGGED) as source,
        MariaDB(other, settings=(*LOGGED, *OF_A_REPLICA)) as replica,
    ):
        replicate(source, replica)
        rows = ", ".join(f"('{key}', 'old')" for key in KEYS)
        source.run_sql(
            "CREATE DATABASE t; CREATE TABLE t.alias (address VARCHAR(99) PRIMARY KEY, goto TEXT);"
            f"INSERT INTO t.alias VALUES {rows};"
            f"CREATE USER mail@localhost IDENTIFIED BY 'p'; GRANT SELECT ON t.* TO mail@localhost;"
            f"CREATE USER {REPLICA}@localhost IDENTIFIED BY '{PASSWORD}';"
            f"GRANT REPLICATION SLAVE ON *.* TO {REPLICA}@localhost"
        )
        yield source, replica


@pytest.mark.parametrize("both", [True, False], ids=["both", "source only"])
async def test_a_replica_that_lags(
    servers: tuple[MariaDB, MariaDB],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    both: bool,
) -> None:
    """What a replica said before it had a change is forgotten when the replica has it, because its log is followed."""
    source, replica = servers
    word = "both" if both else "one"
    await until(lambda: _rows(replica) == len(KEYS))
    if not both:

        def first(hosts: tuple[str, ...]) -> list[HostAddress]:
            return parse_hosts(hosts)[:1]

        monkeypatch.setattr(following, "parse_hosts", first)
    async with _followed(servers, tmp_path) as (engine, followed):
        replica.run_sql("STOP SLAVE SQL_THREAD")
        source.run_sql(f"UPDATE t.alias SET goto = '{word}'")
        await followed.databases["mail"].catch_up()
        for key in KEYS:  # of the replica, which does not have the change yet
            await engine.maps["alias"].answer(key.encode())
        replica.run_sql("START SLAVE SQL_THREAD")
        await until(lambda: _rows(replica, word) == len(KEYS))
        await followed.databases["mail"].catch_up()
        kept = [engine.tables["alias"].cache.peek(key.encode()) for key in KEYS]
    outdated = [entry for entry in kept if entry is not None and entry[0] != word.encode()]
    assert bool(outdated) is not both


@pytest.mark.parametrize("lags", [True, False])
async def test_audited_by_a_replica(
    servers: tuple[MariaDB, MariaDB],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lags: bool,
) -> None:
    """What a replica says that lags proves nothing of an answer; what it says with all of its source's changes does."""
    source, replica = servers
    monkeypatch.setattr(audit, "PAUSE", 0.01)
    monkeypatch.setattr(feed, "CATCH_UP", 0.5)
    source.run_sql("REPLACE INTO t.alias VALUES ('k', 'old')")
    await until(lambda: _rows(replica, "old") > 0)
    async with _followed(servers, tmp_path) as (engine, followed):
        database = followed.databases["mail"]
        table = engine.tables["alias"]
        if lags:
            replica.run_sql("STOP SLAVE SQL_THREAD")
            source.run_sql("UPDATE t.alias SET goto = 'new' WHERE address = 'k'")
            await until(lambda: all(feed_is_settled(feed) for feed in database.feeds))
        table.keep(b"k", b"new")  # as the source says
        entry = table.cache.peek(b"k")
        assert entry is not None
        found = await database._audit._compare(table, b"k", entry)
        if lags:
            replica.run_sql("START SLAVE SQL_THREAD")
    assert found == ("failed" if lags else "outdated")


@asynccontextmanager
async def _followed(
    servers: tuple[MariaDB, MariaDB], tmp_path: Path
) -> AsyncIterator[tuple[Engine, Following]]:
    """Follow both, and ask the replica."""
    source, replica = servers
    config = tmp_path / "mailmapd.toml"
    config.write_text(
        f'[listen]\nsocketmap = ["unix:{tmp_path}/s"]\n[database.mail]\ndriver = "mysql"\n'
        f'hosts = ["unix:{source.socket}", "unix:{replica.socket}"]\nprefer = ["unix:{replica.socket}"]\n'
        'user = "mail"\npassword = "p"\ndbname = "t"\n'
        '[table.alias]\ndatabase = "mail"\nquery = "SELECT goto FROM alias WHERE address = \'%s\'"\n'
        '[map.alias]\ntables = ["alias"]\n'
    )
    planned = plan(load_config(str(config)))
    settings = planned.databases["mail"]
    assert isinstance(settings, MysqlSettings)
    engine = assemble(planned).engine
    changes = ChangesSettings(user=REPLICA, password=PASSWORD, audit=0)
    followed = Following(engine, {"mail": (settings, changes)}, time.monotonic)
    followed.start()
    try:
        await until(lambda: followed.databases["mail"].lease.holds)
        yield engine, followed
    finally:
        await followed.close()
        await engine.close()


def _rows(server: MariaDB, word: str = "%") -> int:
    """Return how many rows a server has by now that point somewhere."""
    found = server.run_sql("SHOW DATABASES LIKE 't'") and server.run_sql(
        "SELECT COUNT(*) FROM t.alias WHERE goto LIKE %s", word
    )
    return int(found[0][0]) if found else 0
