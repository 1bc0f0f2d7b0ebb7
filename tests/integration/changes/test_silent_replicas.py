"""A replica without a log of its own: its source's log says what will change, and the replica when it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mailmapd.changes import followed_host
from mailmapd.changes.fence import Pending
from mailmapd.check.freshness import freshness
from mailmapd.config.loader import load_config
from mailmapd.databases.mysql.binlog.session import Session
from mailmapd.model import Found
from mailmapd.plan.assembly import plan
from support.followed import grant_replication
from support.polling import until
from support.replication import replicate
from support.restarts import DAY, Run, write_config
from support.sql_server import SqlServer

pytestmark = [pytest.mark.servers, pytest.mark.root]

KEYS = [f"k{number}" for number in range(40)]
Pair = tuple[SqlServer, SqlServer]


@pytest.fixture(scope="module")
def pairs(new: Callable[..., SqlServer]) -> Callable[[str], Pair]:
    """Return a source of a kind and its replica, begun when they are asked for."""
    known: dict[str, Pair] = {}

    def pair(kind: str) -> Pair:
        if kind not in known:
            source, replica = new(kind, 1), new(kind, 2, logs=False)
            grant_replication(source)
            source.run_sql("CREATE DATABASE t")
            source.run_sql("CREATE TABLE t.alias (address VARCHAR(99) PRIMARY KEY, goto TEXT)")
            source.grant("mail", "p", "t")
            rows = ", ".join(f"('{key}', 'old')" for key in (*KEYS, "same"))
            source.run_sql(f"INSERT INTO t.alias VALUES {rows}")
            replicate(source, replica)
            known[kind] = source, replica
        return known[kind]

    return pair


def rows(replica: SqlServer, word: str = "old") -> int:
    """Return how many rows the replica has by now that point to a word."""
    if not replica.run_sql("SHOW DATABASES LIKE 't'") or not replica.run_sql("SHOW TABLES IN t"):
        return 0
    return len(replica.run_sql("SELECT 1 FROM t.alias WHERE goto = %s", word))


@pytest.mark.parametrize(
    ("kind", "fenced"),
    [("MariaDB", True), ("MariaDB", False), ("MySQL 9", True)],
    ids=["MariaDB", "MariaDB, no fence", "MySQL 9"],
)
async def test_a_replica_that_lags(
    pairs: Callable[[str], Pair],
    kind: str,
    fenced: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it said before it had a change is forgotten when it shows the change, however late that is."""
    source, replica = pairs(kind)
    word = "new" if fenced else "newer"
    await until(lambda: rows(replica) + rows(replica, "new") >= len(KEYS))
    if not fenced:

        async def at_once(_: Session, pending: list[Pending]) -> int:
            return len(pending)

        monkeypatch.setattr(followed_host, "applied", at_once)
    prefer = f'prefer = ["unix:{replica.socket}"]\n'
    write_config(tmp_path, source.socket, replica.socket, more=prefer)
    async with Run(tmp_path) as run:
        await run.known()
        assert await run.ask(b"same") == Found(b"old")
        replica.run_sql("STOP REPLICA SQL_THREAD")
        source.run_sql(f"UPDATE t.alias SET goto = '{word}' WHERE address <> 'same'")
        [of_source, of_replica] = run.database.feeds
        await until(lambda: of_source.counts["row"] >= len(KEYS))
        await until(lambda: of_replica.counts["row"] >= len(KEYS))
        for key in KEYS:  # of the replica, which does not have the change yet
            assert await run.ask(key.encode()) != Found(word.encode())
        assert max(run.left(key.encode()) for key in KEYS) > 0.8 * DAY
        replica.run_sql("START REPLICA SQL_THREAD")
        await until(lambda: rows(replica, word) == len(KEYS))
        await run.settled()
        assert run.left(b"same") > 0.8 * DAY
        kept = [run.table.cache.peek(key.encode()) for key in KEYS]
    outdated = [entry for entry in kept if entry is not None and entry[0] != word.encode()]
    assert bool(outdated) is not fenced


async def test_writable(pairs: Callable[[str], Pair], tmp_path: Path) -> None:
    """One that anybody may write to is not followed any more, because no log would say so."""
    source, replica = pairs("MariaDB")
    write_config(tmp_path, source.socket, replica.socket)
    async with Run(tmp_path) as run:
        await run.known()
        replica.run_sql("SET GLOBAL read_only = OFF")
        try:
            await until(lambda: not run.database.holds)
            await until(lambda: "set read_only = ON" in run.database.feeds[1].reason)
        finally:
            replica.run_sql("SET GLOBAL read_only = ON")


async def test_no_source(pairs: Callable[[str], Pair], tmp_path: Path) -> None:
    """One whose source is not among the hosts has the ordinary times, and says what is missing."""
    _, replica = pairs("MariaDB")
    write_config(tmp_path, replica.socket)
    async with Run(tmp_path) as run:
        [of_replica] = run.database.feeds
        await until(lambda: "name the server that it replicates from" in of_replica.reason)
        assert not run.database.holds


@pytest.mark.parametrize("kind", ["MariaDB", "MySQL 9"])
async def test_check(pairs: Callable[[str], Pair], kind: str, tmp_path: Path) -> None:
    """`check` says whose log is read in its place, or what is missing."""
    source, replica = pairs(kind)
    write_config(tmp_path, source.socket, replica.socket)
    [checked] = await freshness(plan(load_config(str(tmp_path / "mailmapd.toml"))))
    assert [host.fault for host in checked.hosts] == ["", ""]
    assert f"that of unix:{source.socket} is read in its place" in checked.hosts[1].notes[0]
    write_config(tmp_path, replica.socket)
    [checked] = await freshness(plan(load_config(str(tmp_path / "mailmapd.toml"))))
    assert "name the server that it replicates from in hosts" in checked.hosts[0].fault
