"""The fence: what is pending, what is asked of the server, and what is forgotten for the last time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pytest

from mailmapd.changes import fence as fence_module
from mailmapd.changes.fence import MOST_PENDING, PENDING_BYTES, Fence, Pending, passed
from mailmapd.changes.layout import PostfixLayout
from mailmapd.changes.progress import Progress
from mailmapd.changes.readers import Reader
from mailmapd.changes.selection import Asking
from mailmapd.changes.touched import Touched
from mailmapd.databases.mysql.binlog.events import LogOpened, TransactionBegun, TransactionEnded
from mailmapd.databases.mysql.binlog.session import Committed, Place, Session
from mailmapd.databases.mysql.host import Expected
from mailmapd.errors import DatabaseUnavailable
from mailmapd.provenance.reading import Binding, Part, Reading
from mailmapd.template.mysql_table import MysqlTable

READING = Reading("t", "alias", frozenset({"address"}), ((Binding("address", (Part("s"),)),),))
LAYOUT = PostfixLayout(MysqlTable.compile("aliases", b"SELECT 1 WHERE '%s' = ''"))
READER = Reader("aliases", LAYOUT, READING, {"address": 0}, {"address": "varchar"})
MYSQL = Progress(Place(), is_mariadb=False)


class Told:
    """Writes down what a fence tells."""

    def __init__(self) -> None:
        self.forgotten: list[Touched] = []
        self.shown: list[set[str]] = []

    def forget(self, touched: Touched) -> None:
        """Write down what is forgotten."""
        self.forgotten.append(touched)

    def visible(self, tables: Iterable[str]) -> None:
        """Write down which tables are dropped no more."""
        self.shown.append(set(tables))

    def doubt(self, before: float) -> None:
        """Fail: that is not the fence's."""
        raise AssertionError(before)

    def missed(self) -> None:
        """Fail: that is not the fence's."""
        raise AssertionError

    def expect(self, host: str, expected: Expected | None) -> None:
        """Fail: that is not the fence's."""
        raise AssertionError(host, expected)

    def look(self) -> None:
        """Fail: that is not the fence's."""
        raise AssertionError

    sweeps_asked = 0

    def has_swept(self, asked: int) -> bool:
        """Fail: that is not the fence's."""
        raise AssertionError(asked)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def fence(told: Told) -> Fence:
    return Fence(told, ("aliases", "domains"))


def key(number: int) -> bytes:
    return b"user%d@example.com" % number


def touching(*numbers: int) -> Touched:
    touched = Touched()
    for number in numbers:
        touched.add_key("aliases", key(number))
    return touched


def whole(*tables: str) -> Touched:
    touched = Touched()
    for table in tables:
        touched.add_table(table)
    return touched


def at(number: int, touched: Touched | None = None, commits: int = 0) -> Pending:
    """Return a transaction that ends at a place of a log, and is called by it."""
    touched = touched or touching(number)
    return Pending(Place("f", number, f"a:{number}"), touched, [], commits)


class Answering(Session):
    """A session with MySQL that hears of other transactions while it is asked about those before.

    Transactions up to the number `visible` are.
    """

    def __init__(self, fence: Fence, visible: int) -> None:
        self.is_mariadb = False
        self._fence = fence
        self._visible = visible

    async def value(self, sql: str) -> str:
        """Say whether a transaction is visible."""
        for number in range(2 * MOST_PENDING):
            self._fence.add(Pending(Place(gtid="a:999"), touching(number), []))
        asked = re.search(r"'a:(\d+)'", sql)
        assert asked
        return "1" if int(asked[1]) <= self._visible else "0"


class Counting(Session):
    """A session with a MariaDB that has counted commits until a place of its log."""

    def __init__(self, place: Place, commits: int) -> None:
        self.is_mariadb = True
        self._committed = Committed(place, commits)

    async def committed(self) -> Committed:
        """Say what is visible."""
        return self._committed


def test_pending(fence: Fence) -> None:
    """Transactions without end wait for the fence together, and what they touched is neither lost nor too much."""
    for number in range(10 * MOST_PENDING):
        fence.add(at(number + 1))
    pending = fence.pending
    assert len(pending) == MOST_PENDING
    assert pending[-1].place.position == 10 * MOST_PENDING
    touched = [transaction.touched.keys["aliases"] for transaction in pending]
    assert len(set().union(*touched)) == 10 * MOST_PENDING
    row = (("address", b"x" * 10_000),)
    for number in range(2000):
        asking = [Asking(READER, row)] * 10
        fence.add(Pending(Place("f", 10_000 + number), touching(number), asking))
    assert sum([transaction.size for transaction in pending]) < 2 * PENDING_BYTES
    assert pending[-1].touched.whole == {"aliases"}


def test_very_many_questions(fence: Fence) -> None:
    """A transaction that would have very many reverse queries asked touches all of their tables instead."""
    fence.add(Pending(Place("f", 1), Touched(), [Asking(READER, ())] * 1000))
    assert fence.pending[0].asking == []
    assert fence.pending[0].touched.whole == {"aliases"}


@pytest.mark.parametrize("count", [1, MOST_PENDING])
async def test_the_fence_counts_what_it_asked_for(fence: Fence, count: int) -> None:
    """What is heard of while the server is asked is not taken for visible, nor added to what it was asked for."""
    for number in range(count):
        fence.add(at(number + 1))
    asked = [(transaction.place, transaction.touched.size) for transaction in fence.pending]
    assert await passed(Answering(fence, count), fence.pending, MYSQL) == count
    still = [(transaction.place, transaction.touched.size) for transaction in fence.pending]
    assert still[:count] == asked


async def test_transactions_without_a_pause(fence: Fence) -> None:
    """When the last transaction is not visible yet, earlier ones are found that are, and the rest does not grow."""
    for number in range(40):
        fence.add(at(number + 1))
    for _ in range(20):
        assert 12 <= await passed(Answering(fence, 25), fence.pending, MYSQL) <= 25
        assert await passed(Answering(fence, 0), fence.pending, MYSQL) == 0
    assert len(fence.pending) <= MOST_PENDING + 1


async def test_in_order(fence: Fence, told: Told) -> None:
    """What is visible is forgotten in the log's order, and the rest stays pending."""
    for number in (1, 2, 3):
        fence.add(at(number))
    await fence.forget_visible(Answering(fence, 0), 2)
    assert told.forgotten == [touching(1), touching(2)]
    assert [transaction.place.position for transaction in fence.pending] == [3]
    assert not fence.has_passed(fence.added)
    await fence.forget_visible(Answering(fence, 0), 1)
    assert fence.has_passed(fence.added)


async def test_cut_in_a_question(fence: Fence, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction whose reverse query has no answer, because the connection ends, stays pending as it was."""

    async def cut(_: Session, asking: Sequence[Asking], __: Touched, ___: float) -> None:
        if asking[0].row:
            raise DatabaseUnavailable("cut")

    monkeypatch.setattr(fence_module, "ask", cut)
    for number, row in enumerate([(), (("address", b"a"),)]):
        fence.add(Pending(Place("f", number), touching(number), [Asking(READER, row)]))
    with pytest.raises(DatabaseUnavailable):
        await fence.forget_visible(Answering(fence, 0), 2)
    assert told.forgotten == [touching(0)]
    [still] = fence.pending
    assert still.asking == [Asking(READER, (("address", b"a"),))]
    fence.add(at(9))  # what is asked again is only what was asked
    assert still.touched == touching(1)


async def test_tables_that_are_dropped_no_more(fence: Fence, told: Told) -> None:
    """That a table dropped as a whole can be asked again is said when nothing is pending or open that drops it."""
    fence.add(at(1, whole("aliases", "domains")))
    fence.add(at(2, whole("domains")))
    await fence.forget_visible(Answering(fence, 0), 1)
    assert told.shown == [{"aliases"}]
    fence.is_open = True
    await fence.forget_visible(Answering(fence, 0), 1)
    assert told.shown == [{"aliases"}]
    fence.is_open = False
    fence.tell_visible()
    fence.tell_visible()
    assert told.shown == [{"aliases"}, {"domains"}]
    everything = Touched()
    everything.add_everything("a test")
    fence.add(at(3, everything))
    await fence.forget_visible(Answering(fence, 0), 1)
    assert told.shown[-1] == {"aliases", "domains"}


async def test_another_stream_counts_its_own_commits(fence: Fence) -> None:
    """What is pending waits for no count of an earlier stream; behind the new place, for what comes again."""
    fence.add(at(10, commits=70))
    fence.add(at(30, commits=80))
    progress = Progress(Place("f", 20), is_mariadb=True, shown=Committed(Place("f", 20), 500))
    fence.begin(progress.place)
    assert await passed(Counting(Place("f", 20), 500), fence.pending, progress) == 1
    progress.add(LogOpened(1))
    assert await passed(Counting(Place("f", 20), 500), fence.pending, progress) == 1
    progress.add(TransactionBegun("0-1-9", 21, 0))
    progress.add(TransactionEnded(30))
    # Its place is no end of a transaction any more: the count alone proves it
    assert await passed(Counting(Place("f", 31), 501), fence.pending, progress) == 2


async def test_another_server(fence: Fence) -> None:
    """What is pending by places of another server waits apart until it is known where it is in the log of this one."""
    fence.add(at(900))
    fence.pending[0].is_asked = True
    fence.leave_server()
    fence.add(at(5))
    assert [transaction.place.position for transaction in fence.pending] == [5]
    fence.arrive(Place("g", 4), 2)
    arrived, later = fence.pending
    assert (arrived.place, arrived.commits, arrived.is_asked) == (Place("g", 4), 2, False)
    assert arrived.touched == touching(900)
    assert later.place.position == 5
    fence.arrive(Place("g", 6), 3)
    assert arrived.place == Place("g", 4)


async def test_what_was_there_before(fence: Fence) -> None:
    """Who waits for what is pending now waits for nothing that comes later, also where much of it waits together."""
    fence.add(at(1))
    fence.leave_server()
    for number in range(2, 3 * MOST_PENDING):
        fence.add(at(number))
    number = fence.added
    assert not fence.has_passed(number)
    fence.arrive(Place("f", 1), 0)
    fence.pending[-1].is_asked = True
    fence.add(at(3 * MOST_PENDING))
    count = len(fence.pending)
    await fence.forget_visible(Answering(fence, 0), count - 2)
    assert not fence.has_passed(number)
    await fence.forget_visible(Answering(fence, 0), 1)
    assert fence.has_passed(number)
    assert not fence.has_passed(fence.added)


def test_nothing_left(fence: Fence) -> None:
    """Where everything is forgotten in another way, nothing is pending any more, of no server."""
    fence.add(at(1))
    fence.leave_server()
    assert not fence.has_passed(fence.added)
    fence.add(at(2))
    fence.clear()
    assert fence.has_passed(fence.added)
