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
from collections.abc import Callable
from dataclasses import dataclass

from mailmapd.changes.progress import Progress, order
from mailmapd.changes.selection import Asking
from mailmapd.changes.touched import Touched
from mailmapd.databases.mysql.binlog.stream import Place, Session
from mailmapd.errors import DatabaseError

MOST_PENDING = 64
"""Transactions that wait for the fence one by one; the others wait for the last of them."""

PENDING_BYTES = 4 * 1024 * 1024
"""Bytes that they may take; beyond that, all of a table is meant where keys of it are."""

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

    @property
    def size(self) -> int:
        """Return about how many bytes it takes."""
        return self.touched.size + sum([question.size for question in self.asking])


def add_pending(pending: list[Pending], later: Pending) -> None:
    """Have something more wait for the fence, without end in number or bytes."""
    if len(later.asking) > _MOST_ASKING or sum([other.size for other in pending]) > PENDING_BYTES:
        for asking in later.asking:
            later.touched.add_table(asking.reader.table)
        later.asking = []
        later.touched.add_whole()
    if len(pending) < MOST_PENDING or pending[-1].is_asked:
        pending.append(later)
        return
    _add_to(pending[-1], later)


def _add_to(pending: Pending, later: Pending) -> None:
    pending.place, pending.commits = later.place, later.commits
    pending.touched.add(later.touched)
    pending.asking += later.asking


async def passed(session: Session, pending: list[Pending], progress: Progress) -> int:
    """Return how many of the transactions, from the first on, are visible now. Raises DatabaseError."""
    while len(pending) > MOST_PENDING:
        last = pending.pop()
        _add_to(pending[-1], last)
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


async def wait_until_visible(session: Session, place: Place, pause: float) -> None:
    """Return when all that is logged before a place is visible. Raises DatabaseError."""
    # The server sets no event
    while not await _is_visible(session, place):  # noqa: ASYNC110
        await asyncio.sleep(pause)


async def _is_visible(session: Session, place: Place) -> bool:
    if session.is_mariadb:
        return order(place) <= order(await session.visible_place())
    gtid = place.gtid
    if not set(gtid) <= _QUOTED_GTID:
        raise DatabaseError(f"no identifier of a transaction: {gtid!a}")
    return await session.value(f"SELECT GTID_SUBSET('{gtid}', @@global.gtid_executed)") == "1"
