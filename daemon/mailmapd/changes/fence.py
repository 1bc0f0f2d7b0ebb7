"""The fence: the moment from which a change is visible to every reader.

An event reaches a follower before its row does: a query that is sent at the event may still see the old row. So what
an event touches is dropped at once and once more when the server proves that the commit is visible, and what was
fetched in between is not kept.

    MariaDB    its last commit stands behind the event (`Binlog_snapshot_file` and `_position`), or it has counted as
               many commits as were heard (`Binlog_commits`)
    MySQL      the transaction is in `gtid_executed`

MariaDB's place alone would be no proof: it moves on as soon as the log goes on in another file, before the transaction
that ends the one before is visible, and with each checkpoint that is written to the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mailmapd.changes.commits import order
from mailmapd.changes.progress import Progress
from mailmapd.changes.reverse import ask, deadline
from mailmapd.changes.selection import Asking
from mailmapd.changes.told import Told
from mailmapd.changes.touched import Touched
from mailmapd.databases.mysql.binlog.session import Place, Session
from mailmapd.errors import DatabaseError

MOST_PENDING = 64
"""Transactions that wait for the fence one by one; the others wait for the last of them."""

PENDING_BYTES = 4 * 1024 * 1024
"""Bytes that they may take; beyond that, all of a table is meant where keys of it are."""

FENCE_PAUSE = 0.0005  # seconds between two questions whether a change is visible
_MOST_ASKING = 100  # reverse queries of one transaction; with more, all of their tables are meant

_QUOTED_GTID = frozenset("0123456789abcdefABCDEF-:,")


@dataclass(slots=True, eq=False)
class Pending:
    """A transaction's touched keys, and where it ends in the log; `asking` are reverse queries that are due then.

    `commits` is which commit of a MariaDB it is, of those that were heard. Once the server is asked whether it is
    visible, nothing is added to it until it is asked the next time.
    """

    place: Place
    touched: Touched
    asking: list[Asking]
    commits: int = 0
    is_asked: bool = False
    number: int = 0  # of the first that is in it, as `Fence.added` counts them

    @property
    def size(self) -> int:
        """Return about how many bytes it takes."""
        return self.touched.size + sum([question.size for question in self.asking])

    def add(self, later: Pending) -> None:
        """Wait for a later transaction as well."""
        self.place, self.commits = later.place, later.commits
        self.touched.add(later.touched)
        self.asking += later.asking


class Fence:
    """Holds what is pending for one feed, in the order of its log, and forgets it for the last time.

    `told` is told to forget. It is also told of those of the `tables` of which all was forgotten, once nothing is
    pending that drops them again. `is_open` says that a transaction goes on that has touched something.
    """

    def __init__(self, told: Told, tables: Iterable[str]) -> None:
        self.pending: list[Pending] = []
        self.added = 0
        self.is_open = False
        self._told = told
        self._tables = frozenset(tables)
        self._elsewhere: list[Pending] = []  # by places of a server that was here before
        # Tables of which all was forgotten for the last time, or nearly so
        self._dropped: set[str] = set()

    def has_passed(self, number: int) -> bool:
        """Return whether nothing is pending any more that was there when `added` was this number."""
        oldest = self._elsewhere[:1] or self.pending[:1]
        return not oldest or oldest[0].number > number

    def clear(self) -> None:
        """Hold nothing any more: everything is forgotten in another way."""
        self.pending.clear()
        self._elsewhere.clear()

    def begin(self, place: Place) -> None:
        """Hold what is pending for another stream, which begins at a place."""
        self._dropped.clear()
        self.is_open = False
        # Of the stream before, which counted its own commits. What was heard behind the place where this
        # one begins comes again, and is pending once more then
        for transaction in self.pending:
            transaction.commits = 1 if order(transaction.place) > order(place) else 0

    def leave_server(self) -> None:
        """Have what is pending wait until it is known where it is in the log of another server."""
        self._elsewhere += self.pending
        self.pending.clear()

    def arrive(self, place: Place, commits: int) -> None:
        """Have what waited for that wait for a place in the log of the server that has taken the other one's."""
        for transaction in self._elsewhere:
            transaction.place, transaction.is_asked = place, False
            transaction.commits = commits
        self.pending[:0] = self._elsewhere
        self._elsewhere.clear()

    def add(self, later: Pending) -> None:
        """Have something more wait, without end in number or bytes."""
        self.added += 1
        later.number = self.added
        size = sum([transaction.size for transaction in self.pending])
        if len(later.asking) > _MOST_ASKING or size > PENDING_BYTES:
            for asking in later.asking:
                later.touched.add_table(asking.reader.table)
            later.asking = []
            later.touched.add_whole()
        if len(self.pending) < MOST_PENDING or self.pending[-1].is_asked:
            self.pending.append(later)
        else:
            self.pending[-1].add(later)

    async def forget_visible(self, session: Session, count: int) -> None:
        """Forget for the last time what was touched by the first transactions, which are visible now.

        Reverse queries are asked now, and not at the event: they find keys by rows that transactions before this one
        have changed, which were perhaps not visible then. Raises DatabaseError.
        """
        visible = self.pending[:count]
        if visible:
            visible[-1].is_asked = True
        until = deadline()
        for transaction in visible:
            if transaction.asking:
                await ask(session, transaction.asking, transaction.touched, until)
            # Not before: when the connection ends, they are asked again where the feed goes on
            self.pending.remove(transaction)
            self._told.forget(transaction.touched)
            self._dropped |= self._whole(transaction.touched)
        self.tell_visible()

    def tell_visible(self) -> None:
        """Tell of tables that were dropped whole, once no transaction is open or pending that drops them again."""
        if self._dropped and not self.is_open:
            later: set[str] = set().union(*[self._whole(each.touched) for each in self.pending])
            self._told.visible(self._dropped - later)
            self._dropped &= later

    def _whole(self, touched: Touched) -> set[str]:
        """Return the tables of which all is meant."""
        return set(self._tables) if touched.everything else touched.whole


async def passed(session: Session, pending: list[Pending], progress: Progress) -> int:
    """Return how many of the transactions, from the first on, are visible now. Raises DatabaseError."""
    while len(pending) > MOST_PENDING:
        last = pending.pop()
        pending[-1].add(last)
    if session.is_mariadb:  # one question about all of them
        until, commits = progress.visible(await session.committed())
        return leading(
            pending,
            lambda transaction: order(transaction.place) <= until or transaction.commits <= commits,
        )
    # Where transactions come without a pause the last of them is hardly ever visible, but half of them are.
    asked = len(pending)
    pending[-1].is_asked = True
    while asked and not await _is_visible(session, pending[asked - 1].place):
        asked //= 2
    return asked


def leading(pending: list[Pending], visible: Callable[[Pending], bool]) -> int:
    """Return how many, from the first on, are visible."""
    rest = (number for number, each in enumerate(pending) if not visible(each))
    return next(rest, len(pending))


async def wait_until_visible(session: Session, place: Place) -> None:
    """Return when all that is logged before a place is visible. Raises DatabaseError."""
    # The server sets no event
    while not await _is_visible(session, place):  # noqa: ASYNC110
        await asyncio.sleep(FENCE_PAUSE)


async def _is_visible(session: Session, place: Place) -> bool:
    if session.is_mariadb:
        return order(place) <= order(await session.visible_place())
    gtid = place.gtid
    if not set(gtid) <= _QUOTED_GTID:
        raise DatabaseError(f"no identifier of a transaction: {gtid!a}")
    return await session.value(f"SELECT GTID_SUBSET('{gtid}', @@global.gtid_executed)") == "1"
