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

_QUOTED_GTID = frozenset("0123456789abcdefABCDEF-:")


@dataclass(slots=True)
class Pending:
    """What one transaction touched, and where it ends in the log; `asking` are reverse queries that are due."""

    place: Place
    touched: Touched
    asking: list[Asking]


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
    last = pending[-1].place.gtid
    if not set(last) <= _QUOTED_GTID:
        raise DatabaseError(f"no identifier of a transaction: {last!a}")
    inside = await session.value(f"SELECT GTID_SUBSET('{last}', @@global.gtid_executed)")
    return len(pending) if inside == "1" else 0


def _order(place: Place) -> tuple[int, str, int]:
    """Return what puts places of one server in order: file numbers grow, and become longer when they are used up."""
    return len(place.file), place.file, place.position
