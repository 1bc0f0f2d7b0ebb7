"""SQLite files that are followed: what is committed is known at once, and the rest is kept for long."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from mailmapd.changes import file_feed
from mailmapd.changes.file_feed import FileFeed
from mailmapd.changes.following import Following
from mailmapd.config.loader import load_config
from mailmapd.databases.settings import ChangesSettings, SqliteSettings
from mailmapd.engine.engine import Engine
from mailmapd.engine.outcome import Known
from mailmapd.model import NOT_FOUND, Answer, Found
from mailmapd.plan.assembly import assemble, plan
from support.polling import until

ALIAS = "SELECT goto FROM alias WHERE address = '%s'"
CLOCK = "SELECT goto FROM alias WHERE address = '%s' AND datetime('now') > '2020-01-01'"


class Mail:
    """A file with aliases, and an engine that follows it."""

    def __init__(self, path: Path, engine: Engine, following: Following) -> None:
        self.path = path
        self.engine = engine
        self.database = following.databases["mail"]

    def write(self, sql: str) -> None:
        """Commit something."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(sql)

    async def ask(self, key: bytes, name: str = "alias") -> Answer:
        """Return the answer of a map."""
        return (await self.engine.maps[name].answer(key))[0]

    async def known(self, key: bytes, answer: Answer) -> None:
        """Wait until a map gives this answer."""
        async with asyncio.timeout(5):
            # The answer is what is waited for
            while await self.ask(key) != answer:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def kept_for(self, key: bytes, name: str = "alias") -> float:
        """Return for how many seconds an answer is kept."""
        entry = self.engine.tables[name].cache.peek(key)
        assert entry is not None
        return entry[1] - time.monotonic()


def make_file(path: Path, journal: str = "wal") -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute("CREATE TABLE alias (address TEXT PRIMARY KEY, goto TEXT)")
        connection.execute("INSERT INTO alias VALUES ('a', 'one'), ('b', 'two')")


@pytest.fixture
async def mail(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Mail]:
    path = tmp_path / "mail.sqlite"
    make_file(path, getattr(request, "param", "wal"))
    config = tmp_path / "mailmapd.toml"
    config.write_text(
        f'[listen]\nsocketmap = ["unix:{tmp_path}/s"]\n[database.mail]\ndriver = "sqlite"\npath = "{path}"\n'
        + "".join(
            f'[table.{name}]\ndatabase = "mail"\nquery = "{query}"\n[map.{name}]\ntables = ["{name}"]\n'
            for name, query in (("alias", ALIAS), ("clock", CLOCK))
        )
    )
    planned = plan(load_config(str(config)))
    settings = planned.databases["mail"]
    assert isinstance(settings, SqliteSettings)
    engine = assemble(planned).engine
    following = Following(engine, {"mail": (settings, ChangesSettings())}, time.monotonic)
    following.start()
    try:
        await until(lambda: following.databases["mail"].lease.holds)
        yield Mail(path, engine, following)
    finally:
        await following.close()
        await engine.close()


@pytest.mark.parametrize("mail", ["wal", "delete"], indirect=True)
async def test_commits(mail: Mail) -> None:
    """A commit is known within a second; until then answers are kept for a day, found or not."""
    assert await mail.ask(b"a") == Found(b"one")
    assert await mail.ask(b"new") == NOT_FOUND
    await until(lambda: mail.engine.tables["alias"].watch is not None)
    assert mail.kept_for(b"a") > 70_000
    assert mail.kept_for(b"new") > 70_000
    began = time.monotonic()
    mail.write("INSERT INTO alias VALUES ('new', 'here')")
    await mail.known(b"new", Found(b"here"))
    mail.write("UPDATE alias SET goto = 'changed' WHERE address = 'a'")
    await mail.known(b"a", Found(b"changed"))
    assert time.monotonic() - began < 2
    mail.write("DELETE FROM alias WHERE address = 'a'")
    await mail.known(b"a", NOT_FOUND)


async def test_time(mail: Mail) -> None:
    """A query that depends on the time keeps the ordinary time, and says why."""
    assert await mail.ask(b"a", "clock") == Found(b"one")
    assert mail.kept_for(b"a", "clock") < 301
    [feed] = mail.database.feeds
    assert "DATETIME" in feed.readers.not_followed["clock"].upper()


async def test_on_its_way(mail: Mail) -> None:
    """What was read before a commit, and comes back when that has been heard of, is not kept."""
    table = mail.engine.tables["alias"]
    landed: asyncio.Future[Known] = asyncio.get_running_loop().create_future()
    late: list[tuple[Callable[[Known], None], Known]] = []
    renew = table.origin.renew

    def hold_back(sql_key: bytes, done: Callable[[Known], None]) -> None:
        def land(known: Known) -> None:
            late.append((done, known))
            landed.set_result(known)

        renew(sql_key, land)

    table.origin.fetch = hold_back  # type: ignore[method-assign]
    asked = asyncio.ensure_future(mail.ask(b"a"))
    await landed
    mail.write("UPDATE alias SET goto = 'changed' WHERE address = 'a'")
    await mail.database.catch_up()
    [(done, known)] = late
    done(known)
    assert await asked == Found(b"one")
    assert table.cache.peek(b"a") is None


async def test_another_file(mail: Mail) -> None:
    """A file that takes another one's place is the same as a commit."""
    assert await mail.ask(b"a") == Found(b"one")
    other = mail.path.with_name("other.sqlite")
    make_file(other, "delete")
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("UPDATE alias SET goto = 'another'")
    other.replace(mail.path)
    await mail.known(b"a", Found(b"another"))


async def test_without_the_file(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the file cannot be looked at, nothing is proven: the ordinary time counts from the last look on."""
    assert await mail.ask(b"a") == Found(b"one")

    def fail(_: FileFeed) -> None:
        raise OSError("no such disk")

    monkeypatch.setattr(file_feed.FileFeed, "_read", fail)
    await until(lambda: not mail.database.lease.holds)
    assert mail.kept_for(b"a") < 301
    assert "no such disk" in mail.database.feeds[0].reason
    monkeypatch.undo()
    await until(lambda: mail.database.lease.holds)
