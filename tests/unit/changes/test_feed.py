"""The life of a feed, on a host that does what the test says: it changes without a pause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, cast

import pytest

from mailmapd.changes import feed as feed_module
from mailmapd.changes.beginning import Beginning
from mailmapd.changes.feed import Feed
from mailmapd.changes.fence import Pending
from mailmapd.changes.followed_host import FollowedHost
from mailmapd.changes.progress import Mark, Progress
from mailmapd.changes.readers import Readers
from mailmapd.changes.touched import Touched
from mailmapd.databases.host_list import parse_hosts
from mailmapd.databases.mysql.binlog.events import (
    Event,
    LogOpened,
    LogRotated,
    NotUnderstood,
    StatementLogged,
    TransactionBegun,
    TransactionEnded,
)
from mailmapd.databases.mysql.binlog.session import Committed, Place, Session
from mailmapd.databases.mysql.host import Expected
from mailmapd.databases.mysql.opener import MysqlOpener
from mailmapd.databases.settings import MysqlSettings
from mailmapd.errors import DatabaseUnavailable
from support.clock import FakeClock

ME, OTHER = ("1", "me"), ("2", "other")
START = Place("log.000001", 500, "0-1-1")
SETTINGS = MysqlSettings(hosts=("unix:/nowhere",), user="", password="", dbname="t")


class Told:
    """Takes what a feed tells; all keys have been looked for as soon as that is asked."""

    def __init__(self) -> None:
        self.forgotten = 0
        self.begun_anew = 0
        self.sweeps_asked = 0

    def forget(self, touched: Touched) -> None:
        """Count what is forgotten."""
        self.forgotten += bool(touched)

    def visible(self, tables: Iterable[str]) -> None:
        """Pass over it."""

    def doubt(self, before: float) -> None:
        """Pass over it."""

    def missed(self) -> None:
        """Count beginnings that go on from nothing."""
        self.begun_anew += 1

    def expect(self, host: str, expected: Expected | None) -> None:
        """Pass over it."""

    def look(self) -> None:
        """Pass over it."""

    def has_swept(self, asked: int) -> bool:
        """Say that nothing is left of that."""
        return asked <= self.sweeps_asked


class ScriptedHost(FollowedHost):
    """A MariaDB whose commits are all visible; a `busy` one commits whenever it is asked, and the last two are not."""

    def __init__(self, clock: FakeClock) -> None:
        openers = (MysqlOpener(SETTINGS), MysqlOpener(SETTINGS))
        super().__init__(openers, parse_hosts(SETTINGS.hosts)[0], ())
        self.replica = cast("Any", self)
        self.is_mariadb = True
        self.identity = ME
        self.busy = False
        self.alters = False
        self.is_stuck = False
        self.begins_late = False
        self.at = START
        self.commits = 1
        self.streams = 0
        self.reader = self  # of the stream: it knows no tables
        self._clock = clock
        self._say: Callable[[list[Event]], None]

    async def open(self, *given: Any) -> Any:
        """Open a session, or the stream: that is asked of the replica with what it is to tell, and where it begins."""
        if not given:
            return self
        self._say, place = given[1], given[3]
        self.streams += 1
        self._say([LogRotated("log.000001", place.position or 4)])
        if self.begins_late:
            asyncio.get_running_loop().call_later(0.02, lambda: self._say([LogOpened(77)]))
        else:
            self._say([LogOpened(77)])
        return self, place

    def close(self) -> None:
        """Close either."""

    async def find_log(self, session: Session) -> bool:  # noqa: ARG002
        """Find the host's own."""
        return False

    async def find_identity(self, session: Session) -> tuple[str, ...]:  # noqa: ARG002
        """Say who it is."""
        return self.identity

    async def find_beginning(
        self,
        session: Session,  # noqa: ARG002
        mark: Mark | None,
        identity: tuple[str, ...],
    ) -> Beginning:
        """Begin where the last commit ends, or behind the mark."""
        if mark is None:
            shown = Committed(self.at, self.commits)
            return Beginning(Progress(self.at, is_mariadb=True, shown=shown), self.at)
        same_server = identity == mark.identity
        progress = Progress.after(mark, is_mariadb=True, same_server=same_server)
        return Beginning(progress, self.at)

    async def shown(self) -> Place:
        """Show the last commit."""
        return self.at

    async def passed(
        self,
        session: Session,  # noqa: ARG002
        pending: list[Pending],
        progress: Progress,  # noqa: ARG002
    ) -> int:
        """Show all, or all but two."""
        await asyncio.sleep(0)
        if self.is_stuck:
            return 0
        if not self.busy:
            return len(pending)
        self._clock.now += 0.01
        self.commit()
        return max(len(pending) - 2, 0)

    async def wait_until_shown(self, session: Session, progress: Progress) -> None:
        """Show it."""

    def forget_shapes(self) -> None:
        """Know none."""

    def commit(self) -> None:
        """Commit something that touches everything, or alter a table."""
        self.commits += 1
        begins, gtid = self.at.position, f"0-1-{self.commits}"
        self.at = Place(self.at.file, begins + 100, gtid)
        body: list[Event] = [NotUnderstood("a test", begins + 50), TransactionEnded(begins + 100)]
        if self.alters:
            body = [StatementLogged("t", "DROP VIEW x", begins + 100)]
        self._say([TransactionBegun(gtid, begins + 10, self.commits), *body])


class Bench:
    """A feed of a scripted host, with no pause between its tries."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.told, self.clock = Told(), FakeClock()
        self.host = ScriptedHost(self.clock)
        openers = (MysqlOpener(SETTINGS), MysqlOpener(SETTINGS))
        address = parse_hosts(SETTINGS.hosts)[0]
        self.feed = Feed(openers, address, {}, "t", told=self.told, clock=self.clock)
        patch.setattr(self.feed, "_host", self.host)
        patch.setattr(self.feed._catalog, "find", self._find)
        patch.setattr(self.feed._backoff, "pause", lambda: 0.0)

    async def _find(self, _: Session) -> Readers:
        await asyncio.sleep(0)
        return Readers()

    async def until(self, seen: Callable[[], bool]) -> None:
        """Wait, but not for long."""
        async with asyncio.timeout(3):
            while not seen():  # noqa: ASYNC110  # as often as others have had their turn
                await asyncio.sleep(0)

    async def lose(self) -> None:
        """Have the feed lose its stream; it begins again at once."""
        self.feed._end(DatabaseUnavailable("cut"))
        await self.until(lambda: not self.feed.alive)

    @property
    def pending(self) -> list[Pending]:
        """Return what waits for the fence."""
        return self.feed._fence.pending


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A feed that follows a busy host: something is always pending."""
    bench = Bench(monkeypatch)
    bench.feed.start()
    await bench.until(lambda: bench.feed.alive)
    bench.host.busy = True
    bench.host.commit()
    await bench.until(lambda: len(bench.pending) > 1)
    yield bench
    await bench.feed.close()


async def test_found_again(bench: Bench) -> None:
    """A lost feed is alive again when what readers saw as it began is forgotten, whatever is pending of later."""
    begun_anew = bench.told.begun_anew
    await bench.lose()
    await bench.until(lambda: bench.feed.alive)
    assert bench.pending
    assert bench.told.begun_anew == begun_anew


async def test_not_before_everything_is_forgotten(bench: Bench) -> None:
    """It is not alive again while something is pending that was heard before."""
    bench.host.is_stuck = True
    await bench.lose()
    for _ in range(1000):
        await asyncio.sleep(0)
    assert not bench.feed.alive
    bench.host.is_stuck = False
    await bench.until(lambda: bench.feed.alive)


async def test_altered_without_a_pause(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where tables are altered all the time, so that the catalog is always old."""
    monkeypatch.setattr(feed_module, "CATALOG_PAUSE", 0.0)
    bench.host.alters = True
    await bench.lose()
    await bench.until(lambda: bench.feed.alive)
    assert bench.feed._catalog.is_old


async def test_the_mark_moves_on(bench: Bench) -> None:
    """Where a later start goes on moves on, and nothing is pending of what was before it."""
    moved: set[int] = set()

    def has_moved() -> bool:
        mark = bench.feed.settled_mark
        assert mark is not None
        assert mark.place.position <= bench.pending[0].place.position - 100
        moved.add(mark.place.position)
        return len(moved) == 3

    await bench.until(has_moved)


async def test_catching_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits until all is forgotten that can be seen now waits for no more than that."""
    monkeypatch.setattr(feed_module, "CATCH_UP", 1.0)
    before = bench.host.at.position
    await bench.feed.catch_up()
    assert bench.pending[0].place.position > before


async def test_another_history(bench: Bench) -> None:
    """On a server that lacks what was heard before, the feed begins anew, also with something pending of the other."""
    begun_anew = bench.told.begun_anew
    bench.host.identity = OTHER
    bench.host.at, bench.host.commits = Place("log.000001", 100, "0-1-1"), 1
    bench.host.busy = False
    streams = bench.host.streams
    await bench.lose()
    await bench.until(lambda: bench.host.streams > streams)
    bench.host.commit()
    await bench.until(lambda: bench.feed.alive)
    assert bench.told.begun_anew == begun_anew + 1


async def test_a_log_that_opens_late(bench: Bench) -> None:
    """Before the log says when it was begun, nothing is known of it: not that it is another one."""
    begun_anew = bench.told.begun_anew
    bench.host.busy = False
    await bench.until(lambda: not bench.pending)
    bench.host.begins_late = True
    await bench.lose()
    await bench.until(lambda: bench.feed.alive)
    assert bench.told.begun_anew == begun_anew
