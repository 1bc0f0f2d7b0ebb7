"""A feed goes on from where it was, after a restart of mailmapd or a loss, where the server proves the same history."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailmapd.changes.feed import Feed
from mailmapd.model import NOT_FOUND, Found
from support.daemon import Daemon
from support.followed import REPLICA, Followed, grant_replication
from support.mariadb import MariaDB
from support.polling import until
from support.replication import replicate
from support.restarts import DAY, ORDINARY, Run, write_config
from support.sql_server import SqlServer

pytestmark = [pytest.mark.servers, pytest.mark.root]

KINDS = pytest.mark.parametrize("kind", ["MariaDB", "MySQL 9"])
KEEPS = 0.8 * DAY  # seconds that are left of a day's at least, whatever was taken off at random

New = Callable[..., SqlServer]


@pytest.fixture(scope="module")
def servers(new: New) -> Callable[[str], SqlServer]:
    """Return the one server of a kind, begun when it is asked for."""
    known: dict[str, SqlServer] = {}

    def server(kind: str) -> SqlServer:
        if kind not in known:
            known[kind] = new(kind)
        return known[kind]

    return server


def fill(server: SqlServer, old: str = "one") -> None:
    """Make the accounts and rows that every test begins with."""
    grant_replication(server)
    server.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    server.run_sql("CREATE TABLE t.alias (address VARCHAR(99) PRIMARY KEY, goto TEXT)")
    server.grant("mail", "p", "t")
    server.run_sql(
        f"INSERT INTO t.alias VALUES ('same', 'as before'), ('old', '{old}'), ('gone', 'there')"
    )


@pytest.fixture
def server(kind: str, servers: Callable[[str], SqlServer], tmp_path: Path) -> SqlServer:
    """A server with a few rows, which the configuration in the folder names."""
    found = servers(kind)
    fill(found)
    write_config(tmp_path, found.socket)
    return found


async def remember(run: Run) -> None:
    """Have memory know every key, for long."""
    await run.known()
    assert await run.ask(b"same") == Found(b"as before")
    assert await run.ask(b"old") == Found(b"one")
    assert await run.ask(b"gone") == Found(b"there")
    assert await run.ask(b"new") == NOT_FOUND
    assert run.left(b"same") > KEEPS


def change(server: SqlServer) -> None:
    """Change every row but one."""
    server.run_sql("UPDATE t.alias SET goto = 'two' WHERE address = 'old'")
    server.run_sql("DELETE FROM t.alias WHERE address = 'gone'")
    server.run_sql("INSERT INTO t.alias VALUES ('new', 'here')")


async def answers_are_new(run: Run) -> None:
    """See that every answer is what the database says."""
    assert await run.ask(b"same") == Found(b"as before")
    assert await run.ask(b"old") == Found(b"two")
    assert await run.ask(b"gone") == NOT_FOUND
    assert await run.ask(b"new") == Found(b"here")


def asked(server: SqlServer) -> int:
    """Return how many lookups reached the server."""
    return sum("goto FROM alias" in text for text in server.logged_queries("mail"))


@KINDS
@pytest.mark.parametrize("way", ["killed after a save", "server restarted, too"])
async def test_changed_while_mailmapd_was_down(server: SqlServer, tmp_path: Path, way: str) -> None:
    """After a restart what changed meanwhile is asked for, and nothing else: the rest is kept for as long as before."""
    async with Run(tmp_path) as run:
        await remember(run)
        await run.warm_start.save()
        if way == "killed after a save":
            shutil.copy(tmp_path / "state" / "cache", tmp_path / "saved")
            server.run_sql("UPDATE t.alias SET goto = 'between' WHERE address = 'old'")
            await run.settled()
    if way == "killed after a save":
        shutil.copy(tmp_path / "saved", tmp_path / "state" / "cache")
    change(server)
    if way == "server restarted, too":
        server.restart()
    server.log_queries()
    async with Run(tmp_path) as run:
        await run.settled()
        assert run.left(b"same") > KEEPS
        assert [run.left(key) for key in (b"old", b"gone", b"new")] == [0, 0, 0]
        await answers_are_new(run)
        assert asked(server) == 3
        await answers_are_new(run)
        assert asked(server) == 3
    server.log_queries(False)


@pytest.mark.parametrize("kind", ["MariaDB"])
async def test_altered_while_mailmapd_was_down(server: SqlServer, tmp_path: Path) -> None:
    """Rows from before a table was altered are not read as if they were of the new one: nothing of it is kept."""
    async with Run(tmp_path) as run:
        await remember(run)
    change(server)
    server.run_sql("ALTER TABLE t.alias MODIFY address VARCHAR(99) AFTER goto")
    async with Run(tmp_path) as run:
        await run.settled()
        assert run.left(b"same") == 0
        await answers_are_new(run)


@KINDS
async def test_lost_and_found(server: SqlServer, tmp_path: Path) -> None:
    """After a stream that was ended, what changed meanwhile is forgotten, and the rest believed as before."""
    async with Run(tmp_path) as run:
        await remember(run)
        change_later = "UPDATE t.alias SET goto = 'lost' WHERE address = 'old'"
        server.kill_connections(REPLICA)
        server.run_sql(change_later)
        change(server)
        await until(lambda: not run.database.holds)
        assert run.left(b"same") <= ORDINARY
        await run.settled()
        assert run.left(b"same") > KEEPS
        await answers_are_new(run)
        await run.reload()
        assert run.left(b"same") <= ORDINARY
        server.run_sql("UPDATE t.alias SET goto = 'three' WHERE address = 'old'")
        await run.settled()
        assert run.left(b"same") > KEEPS
        assert await run.ask(b"old") == Found(b"three")


@pytest.mark.parametrize("kind", ["MariaDB"])
async def test_restarted_server(server: SqlServer, tmp_path: Path) -> None:
    """The same of a server that was restarted, and goes on in another file."""
    async with Run(tmp_path) as run:
        await remember(run)
        server.stop()
        await until(lambda: not run.database.holds)
        server.start()
        change(server)
        await run.settled()
        assert run.left(b"same") > KEEPS
        await answers_are_new(run)


def reset(server: SqlServer) -> None:
    """Begin the log anew, with the same transactions at the same places but for a row in one of them, and more."""
    reset_log(server)
    fill(server, "two")
    server.run_sql("; ".join(f"INSERT INTO t.alias VALUES ('r{n}', 'reset')" for n in range(100)))


def reset_log(server: SqlServer) -> None:
    """Begin the log anew, in another second than the one before."""
    time.sleep(1.1)
    server.run_sql("RESET MASTER" if isinstance(server, MariaDB) else "RESET BINARY LOGS AND GTIDS")


def purge(server: SqlServer) -> None:
    """Have the log lack what was changed."""
    server.kill_connections(REPLICA)  # a file that is being read is not purged
    server.run_sql("FLUSH BINARY LOGS")
    deadline = time.monotonic() + 10
    while len(files := server.run_sql("SHOW BINARY LOGS")) > 1 and time.monotonic() < deadline:
        server.run_sql(f"PURGE BINARY LOGS TO '{files[-1][0]}'")
    assert len(files) == 1


@pytest.mark.parametrize(
    ("kind", "lose", "runs"),
    [
        ("MariaDB", reset, True),
        ("MySQL 9", reset, False),
        ("MariaDB", purge, False),
        ("MySQL 9", purge, False),
    ],
)
async def test_a_log_that_is_not_the_same(
    server: SqlServer, tmp_path: Path, lose: Callable[[SqlServer], None], runs: bool
) -> None:
    """A log that was begun anew, or purged, proves nothing: what was known has the ordinary time from then on."""
    if lose is reset:
        reset_log(server)
        fill(server)
    async with Run(tmp_path) as run:
        await remember(run)
        if runs:
            server.kill_connections(REPLICA)
            change(server)
            lose(server)
            await until(lambda: not run.database.holds)
            await run.settled()
            await not_believed(run)
    if not runs:
        change(server)
        lose(server)
        async with Run(tmp_path) as run:
            await run.settled()
            await not_believed(run)


async def not_believed(run: Run) -> None:
    """See that nothing from before is good for longer than the ordinary time, and that what is asked now is."""
    assert max(run.left(key) for key in (b"same", b"old", b"gone", b"new")) <= ORDINARY
    await run.ask(b"another")
    assert run.left(b"another") > KEEPS


@pytest.mark.parametrize("kind", ["MySQL 9"])
async def test_an_old_copy(new: New, kind: str, tmp_path: Path) -> None:
    """A server that was set back to an older copy, and has gone on to the same numbers, is not the same."""
    server = new(kind)
    fill(server)
    write_config(tmp_path, server.socket)
    server.stop()
    data = server.directory / "data"
    shutil.copytree(data, server.directory / "copy", copy_function=_copy_file)
    _own(server.directory / "copy", data)
    server.start()
    server.run_sql("UPDATE t.alias SET goto = 'never' WHERE address = 'gone'")
    server.run_sql("UPDATE t.alias SET goto = 'there' WHERE address = 'gone'")
    async with Run(tmp_path) as run:
        await remember(run)
    server.stop()
    shutil.rmtree(data)
    (server.directory / "copy").rename(data)
    server.start()
    change(server)
    server.run_sql("INSERT INTO t.alias VALUES ('more', 'rows')")
    async with Run(tmp_path) as run:
        await run.settled()
        await not_believed(run)


def _copy_file(source: str, target: str) -> None:
    shutil.copy2(source, target)


def _own(copy: Path, like: Path) -> None:
    """Give a copy to the server's account."""
    owner = like.stat()
    for path in (copy, *copy.rglob("*")):
        shutil.chown(path, owner.st_uid, owner.st_gid)


async def test_another_server_with_the_same_numbers(new: New, tmp_path: Path) -> None:
    """Another server whose log has the same files, positions and identifiers is not the same, wherever it is found."""
    servers = new("MariaDB"), new("MariaDB")
    link = tmp_path / "link"
    write_config(tmp_path, link)
    link.symlink_to(servers[0].socket)
    for server in servers:
        fill(server)
    async with Run(tmp_path) as run:
        await remember(run)
        for server in servers:
            write_twice(server)
            await asyncio.sleep(1.1)
        await run.settled()
    [first], [second] = [server.run_sql("SELECT @@gtid_binlog_pos") for server in servers]
    assert first == second
    change(servers[1])
    link.unlink()
    link.symlink_to(servers[1].socket)
    async with Run(tmp_path) as run:
        await run.settled()
        await not_believed(run)


def write_twice(server: SqlServer) -> None:
    """Commit in two different seconds: what MariaDB says of a transaction's time."""
    server.run_sql("INSERT INTO t.alias VALUES ('first', 'of two')")
    time.sleep(1.1)
    server.run_sql("INSERT INTO t.alias VALUES ('last', 'of two')")


@pytest.mark.parametrize(
    ("kind", "runs"),
    [("MariaDB", True), ("MySQL 9", False)],
    ids=["MariaDB", "MySQL 9, mailmapd restarted"],
)
async def test_a_promoted_replica(new: New, kind: str, tmp_path: Path, runs: bool) -> None:
    """A replica that takes its source's place proves the same history by its identifiers: nothing is doubted."""
    source, replica = new(kind, 1), new(kind, 2)
    fill(source)
    replicate(source, replica)
    link = source.directory / "link"
    link.symlink_to(source.socket)
    write_config(tmp_path, link)

    def fail_over() -> None:
        replica.run_sql("STOP REPLICA; RESET REPLICA ALL")
        source.stop()
        link.unlink()
        link.symlink_to(replica.socket)
        change(replica)

    async with Run(tmp_path) as run:
        await remember(run)
        write_twice(source)
        await run.settled()
        await until(lambda: has_last(replica))
        if runs:
            fail_over()
            await until(lambda: not run.database.holds)
            await run.settled()
            assert run.left(b"same") > KEEPS
            await answers_are_new(run)
    if not runs:
        fail_over()
        async with Run(tmp_path) as run:
            await run.settled()
            assert run.left(b"same") > KEEPS
            await answers_are_new(run)


def has_last(replica: SqlServer) -> bool:
    """Return whether a replica has all that its source had."""
    if not replica.run_sql("SHOW DATABASES LIKE 't'") or not replica.run_sql("SHOW TABLES IN t"):
        return False
    return bool(replica.run_sql("SELECT 1 FROM t.alias WHERE address = 'last'"))


@KINDS
async def test_the_same_server_id(
    server: SqlServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """When a replica comes with the id that was chosen, another one is taken, once, and nothing is missed."""
    other = Followed(server, lambda *_: None)
    async with Run(tmp_path) as run:
        await remember(run)
        [feed] = run.database.feeds
        assert isinstance(feed, Feed)
        taken = other._replica.server_id = feed._host.replica.server_id
        async with other:
            await until(lambda: not run.database.holds)
            change(server)
            await run.settled()
            assert feed._host.replica.server_id != taken
            assert run.left(b"same") > KEEPS
            await answers_are_new(run)
            heartbeats = len(other.events)
            await other.until(lambda events: len(events) > heartbeats + 1)
            assert other.lost is None
    assert caplog.text.count(f"another replica has come with the server id {taken}") == 1


@pytest.mark.parametrize("kind", ["MariaDB"])
def test_the_whole_daemon(server: SqlServer, short_path: Path) -> None:
    """A daemon that is ended by SIGTERM and started again asks for what was changed, and for nothing else."""
    write_config(short_path, server.socket)
    with Daemon(short_path, (short_path / "mailmapd.toml").read_text("utf-8")) as daemon:
        wait_for(lambda: daemon.text().count("are followed") == 1, "changes are not followed")
        with daemon.socketmap() as client:
            assert client.lookup("alias", b"same") == b"as before"
            assert client.lookup("alias", b"old") == b"one"
        assert daemon.stop() == 0
        change(server)
        daemon.start()
        wait_for(lambda: "are followed without a gap" in daemon.text(), "there was a gap")
        server.log_queries()
        with daemon.socketmap() as client:
            assert client.lookup("alias", b"same") == b"as before"
            assert asked(server) == 0
            assert client.lookup("alias", b"old") == b"two"
            assert asked(server) == 1
    server.log_queries(False)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
