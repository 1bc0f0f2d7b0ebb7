"""Sources: a replica without a log of its own is followed by the log of the server that it replicates from.

Its source's log says what will change, and the replica itself when it has (`applied_place`): that is its fence, which
may be hours away. What it shows and its source's log does not say, and what is written to it by others than its
source, is in no log that is followed: so it has to be `read_only`, and is looked at all the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from mailmapd.changes.fence import Pending, leading
from mailmapd.changes.lease import PATIENCE
from mailmapd.databases.host_list import HostAddress
from mailmapd.databases.mysql.binlog.gtids import GtidError, GtidSet, GtidState
from mailmapd.databases.mysql.binlog.session import (
    CannotFollow,
    NoLog,
    Place,
    Session,
    open_session,
)
from mailmapd.databases.mysql.opener import MysqlOpener
from mailmapd.errors import DatabaseError, DatabaseUnavailable

_GTID_LETTERS = frozenset("0123456789abcdefABCDEF-:,")
_COMPARE = 1.0  # seconds between two looks whether a replica shows only what its source's log says
WAIT = 1.0  # seconds for which the server holds a question whether something is applied


async def find_source(
    session: Session, opener: MysqlOpener, others: Iterable[HostAddress], reason: NoLog
) -> HostAddress:
    """Return which of the other hosts has a log that says what this server shows. Raises NoLog, CannotFollow."""
    applied = await applied_place(session)
    if not applied.gtid:
        raise reason  # it is no replica
    away: DatabaseUnavailable | None = None
    for address in others:
        try:
            other = await open_session(opener, address)
        except DatabaseUnavailable as error:
            away = error
            continue
        try:
            await other.check_fitness()
            logged = await other.value(
                "SELECT @@global.gtid_binlog_pos"
                if other.is_mariadb
                else "SELECT @@global.gtid_executed"
            )
            is_source = other.is_mariadb == session.is_mariadb and within(session, applied, logged)
        except DatabaseUnavailable as error:
            away = error
            continue
        except DatabaseError:
            continue
        finally:
            other.close()
        if is_source:
            await check_read_only(session)
            return address
    if away is not None:
        raise away  # it may be the one
    raise NoLog(f"{reason}; or name the server that it replicates from in hosts, too")


async def check_read_only(session: Session) -> None:
    """Raise CannotFollow where others than its source may write to a replica without a log."""
    settings = await session.variables("read_only")
    if settings["read_only"].upper() in {"OFF", "0", ""}:
        raise CannotFollow(
            f"{session.host}: the server does not log what it replicates, and anybody may write to it; "
            "set read_only = ON, or have it log with log_bin and log_slave_updates = ON"
        )


async def applied_place(session: Session) -> Place:
    """Return what a replica shows of its source's log: every reader sees all of it. Raises DatabaseError."""
    name = "gtid_slave_pos" if session.is_mariadb else "gtid_executed"
    return Place(gtid=(await session.value(f"SELECT @@global.{name}")).replace("\n", ""))


async def wait_until_applied(session: Session, gtid: str) -> bool:
    """Return whether a replica shows transactions, after a second at most. Raises DatabaseError."""
    if not set(gtid) <= _GTID_LETTERS:
        raise DatabaseError(f"no identifiers of transactions: {gtid!a}")
    wait = "MASTER_GTID_WAIT" if session.is_mariadb else "WAIT_FOR_EXECUTED_GTID_SET"
    return await session.value(f"SELECT {wait}('{gtid}', {WAIT:g})") == "0"


async def compare_with_source(
    session: Session, source: str, has_heard: Callable[[Place], bool], clock: Callable[[], float]
) -> None:
    """Raise CannotFollow, DatabaseError when a replica shows for long what its source's log does not say.

    Also when others may write to it.
    """
    strange_since: float | None = None
    while True:
        await check_read_only(session)
        shown, now = await applied_place(session), clock()
        if has_heard(shown):
            strange_since = None
        elif strange_since is None:
            strange_since = now
        elif now - strange_since > PATIENCE:
            raise DatabaseUnavailable(
                f"{session.host}: it has changes that the log of {source} does not say"
            )
        await asyncio.sleep(_COMPARE)


async def applied(session: Session, pending: list[Pending]) -> int:
    """Return how many of the transactions, from the first on, a replica shows. Raises DatabaseError."""
    if not await wait_until_applied(session, pending[0].place.gtid):
        return 0
    shown = await applied_place(session)
    return leading(pending, lambda each: within(session, each.place, shown.gtid))


async def held_gtids(session: Session, *, by_source: bool) -> str:
    """Return the transactions that a server has, by names that all servers of a replication have in common.

    Nodes of Galera have names of their own, and wait for each other: of those there is nothing to compare. Raises
    DatabaseError.
    """
    if by_source or not session.is_mariadb:
        return (await applied_place(session)).gtid
    settings = await session.variables("wsrep_on")
    if settings["wsrep_on"].upper() in {"ON", "1"}:
        return ""
    return await session.value("SELECT @@global.gtid_binlog_pos")


def within(session: Session, place: Place, gtid: str) -> bool:
    """Return whether all transactions of a place are among others. Raises DatabaseError."""
    try:
        if session.is_mariadb:
            return GtidState(place.gtid) <= GtidState(gtid)
        return GtidSet(place.gtid) <= GtidSet(gtid)
    except GtidError as error:
        raise DatabaseError(f"{session.host}: {error}") from None
