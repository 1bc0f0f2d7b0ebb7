"""The fence: the moment from which a change is visible to every reader.

An event reaches a follower before its row does: a query that is sent at the event may still see the old row. So what
an event touches is dropped at once and once more when the server proves that the commit is visible, and what was
fetched in between is not kept.

    MariaDB    a consistent snapshot that stands behind the event (`Binlog_snapshot_file` and `_position`)
    MySQL      the transaction is in `gtid_executed`
"""

from __future__ import annotations

from dataclasses import dataclass

from mailmapd.changes.selection import Asking
from mailmapd.changes.touched import Touched
from mailmapd.databases.mysql.binlog.stream import Place, Session
from mailmapd.errors import DatabaseError

MOST_PENDING = 64
"""Transactions that wait for the fence one by one; the others wait for the last of them."""

PENDING_BYTES = 4 * 1024 * 1024
"""Bytes that they may take; beyond that, all of a table is meant where keys of it are."""

_MOST_ASKING = 100  # reverse queries of one transaction; with more, all of their tables are meant

_QUOTED_GTID = frozenset("0123456789abcdefABCDEF-:")


@dataclass(slots=True)
class Pending:
    """A transaction's touched keys, and where it ends in the log; `asking` are reverse queries that are due.

    When the server has been asked whether it is visible, nothing may be added to it.
    """

    place: Place
    touched: Touched
    asking: list[Asking]
    is_asked: bool = False

    @property
    def size(self) -> int:
        """Return about how many bytes it takes."""
        return self.touched.size + sum([one.size for one in self.asking])


def add_pending(pending: list[Pending], one: Pending) -> None:
    """Have something more wait for the fence, without end in number or bytes."""
    if len(one.asking) > _MOST_ASKING or sum([other.size for other in pending]) > PENDING_BYTES:
        for asking in one.asking:
            one.touched.add_table(asking.reader.table)
        one.asking = []
        one.touched.add_whole()
    if len(pending) < MOST_PENDING or pending[-1].is_asked:
        pending.append(one)
        return
    last = pending[-1]
    last.place = one.place
    last.touched.add(one.touched)
    last.asking += one.asking


async def passed(session: Session, pending: list[Pending]) -> int:
    """Return how many of the transactions, from the first on, are visible now. Raises DatabaseError."""
    if session.is_mariadb:
        now = await session.visible_place()
        count = 0
        for one in pending:
            if _order(one.place) > _order(now):
                break
            count += 1
        return count
    asked, last = len(pending), pending[-1].place.gtid
    pending[-1].is_asked = True
    if not set(last) <= _QUOTED_GTID:
        raise DatabaseError(f"no identifier of a transaction: {last!a}")
    inside = await session.value(f"SELECT GTID_SUBSET('{last}', @@global.gtid_executed)")
    return asked if inside == "1" else 0  # others may have come meanwhile


def _order(place: Place) -> tuple[int, str, int]:
    """Return what puts places of one server in order: file numbers grow, and become longer when they are used up."""
    return len(place.file), place.file, place.position
