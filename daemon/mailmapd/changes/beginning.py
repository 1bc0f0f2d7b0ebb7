"""Beginnings of streams: at the end of the log as readers see it, or behind a mark whose history the server proves."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from mailmapd.changes.progress import Mark, Progress
from mailmapd.databases.mysql.binlog.gtids import GtidError, GtidSet
from mailmapd.databases.mysql.binlog.session import CannotFollow, Place, Session
from mailmapd.errors import DatabaseError


class NotProven(DatabaseError):
    """The server's log is not proven to be the one that was heard before."""


class Beginning(NamedTuple):
    """A progress at the place to ask for, and what has to be heard until everything is known that readers see."""

    progress: Progress
    shown: Place


async def at_the_end(session: Session) -> Beginning:
    """Return where everything before is visible. Raises DatabaseError.

    On MySQL the last transaction is asked for once more: its time is what a later start can compare.
    """
    if session.is_mariadb:
        gtid = await session.value("SELECT @@global.gtid_binlog_pos")
        committed = await session.committed()
        place = replace(committed.place, gtid=gtid)
        return Beginning(Progress(place, is_mariadb=True, shown=committed), committed.place)
    shown = await session.visible_place()
    try:
        executed = GtidSet(shown.gtid)
        purged = GtidSet(await session.value("SELECT @@global.gtid_purged"))
    except GtidError as error:
        raise CannotFollow(f"{session.host}: {error}") from None
    last = executed.last(await session.value("SELECT @@global.server_uuid"))
    if not last or last in purged:
        return Beginning(Progress(shown, is_mariadb=False), shown)
    mark = Mark((), shown, trail=((last, 0),), before=str(executed.without(last)))
    return Beginning(Progress.after(mark, is_mariadb=False, same_server=True), shown)


async def behind(mark: Mark, session: Session, identity: tuple[str, ...]) -> Beginning:
    """Return where what was heard before ends. Raises NotProven where that cannot be shown, DatabaseError."""
    same_server = identity == mark.identity
    if session.is_mariadb != bool(mark.place.file):
        raise NotProven(f"{session.host}: it is a server of another kind")
    if session.is_mariadb and not same_server and not mark.is_known_elsewhere:
        raise NotProven(f"{session.host}: it is another server")
    committed = await session.committed() if session.is_mariadb else None
    shown = await session.visible_place() if committed is None else committed.place
    try:
        if not session.is_mariadb and not GtidSet(mark.place.gtid) <= GtidSet(shown.gtid):
            raise NotProven(f"{session.host}: it lacks transactions that were heard of")
        progress = Progress.after(
            mark, is_mariadb=session.is_mariadb, same_server=same_server, shown=committed
        )
    except GtidError as error:
        raise NotProven(f"{session.host}: {error}") from None
    return Beginning(progress, shown)
