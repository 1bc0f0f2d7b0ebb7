"""A host that is followed: the server that is asked, and whose log says what it shows.

That is its own, and the fence tells what is visible; or the log of the server that it replicates from (`source`), and
the host itself tells what it has applied of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from mailmapd.changes.beginning import Beginning, at_the_end, behind
from mailmapd.changes.fence import Pending, passed, wait_until_visible
from mailmapd.changes.progress import Mark, Progress
from mailmapd.changes.source import (
    applied,
    applied_place,
    compare_with_source,
    find_source,
    held_gtids,
    wait_until_applied,
    within,
)
from mailmapd.databases.host_list import HostAddress
from mailmapd.databases.mysql.binlog.session import (
    CannotFollow,
    NoLog,
    Place,
    Session,
    open_session,
)
from mailmapd.databases.mysql.binlog.stream import Replica
from mailmapd.databases.mysql.identity import Identity
from mailmapd.databases.mysql.opener import MysqlOpener
from mailmapd.errors import DatabaseError, DatabaseUnavailable

log = logging.getLogger(__name__)

COMPARE = 15.0
"""Seconds between two looks whether new connections, such as those of lookups, reach the server that is followed."""


_HAS_PAUSE = 0.02  # seconds between looks whether a host has what another one had


class OtherServer(DatabaseUnavailable):
    """New connections reach another server. What lookups have fetched lately may be of that one."""


class FollowedHost:
    """Opens sessions with one host. `replica` asks for the log: the host's, or that of its source among the others."""

    def __init__(
        self,
        openers: tuple[MysqlOpener, MysqlOpener],
        address: HostAddress,
        others: Sequence[HostAddress],
    ) -> None:
        self.label = address.label
        self.source: HostAddress | None = None
        self._opener, self._replication = openers
        self._address = address
        self._others = others
        self.replica = Replica(self._replication, address)

    async def open(self) -> Session:
        """Return a session with the host itself. Raises DatabaseUnavailable."""
        return await open_session(self._opener, self._address)

    async def find_log(self, session: Session) -> bool:
        """Find out whose log is to be read; return whether it is another one's than before.

        Raises CannotFollow, DatabaseError.
        """
        source = None
        try:
            await session.check_fitness()
        except NoLog as error:
            source = await find_source(session, self._opener, self._others, error)
        if source == self.source:
            return False
        self.source = source
        self.replica = Replica(self._replication, source or self._address)
        return True

    async def find_identity(self, session: Session) -> Identity:
        """Return which server this is.

        Raises CannotFollow when two connections to the address reach two servers: a balancer stands between.
        """
        other = await self.open()
        try:
            identity = await session.identity()
            if identity != await other.identity():
                raise CannotFollow(
                    f"{self.label}: connections reach different servers; name each of them in hosts"
                )
        finally:
            other.close()
        return identity

    async def compare(self, identity: Identity) -> None:
        """See for ever that new connections reach the same server, and that it can be followed as it is now.

        Raises OtherServer, CannotFollow.
        """
        while True:
            await asyncio.sleep(COMPARE)
            try:
                session = await self.open()
                try:
                    reached = await session.identity()
                    if reached == identity and self.source is None:
                        await session.check_fitness()
                finally:
                    session.close()
            except CannotFollow:
                raise
            except DatabaseError as error:
                log.debug("changes of %s: not compared: %s", self.label, error)
                continue
            if reached != identity:
                raise OtherServer(f"{self.label}: new connections reach another server")

    async def find_beginning(
        self, session: Session, mark: Mark | None, identity: Identity
    ) -> Beginning:
        """Return where the stream is to begin: behind the mark, if there is one. Raises NotProven, DatabaseError."""
        if self.source is not None:
            shown = await applied_place(session)
            return Beginning(Progress(shown, is_mariadb=session.is_mariadb), shown)
        if mark is None:
            return await at_the_end(session)
        return await behind(mark, session, identity)

    async def gtids(self) -> str:
        """Return the transactions that the host has, as others of its replication call them. Raises DatabaseError."""
        session = await self.open()
        try:
            return await held_gtids(session, by_source=self.source is not None)
        finally:
            session.close()

    async def wait_until_it_has(self, others: Iterable[str]) -> None:
        """Return when the host has all that these others had. Raises DatabaseError."""
        session = await self.open()
        try:
            for gtids in others:
                while True:
                    held = await held_gtids(session, by_source=self.source is not None)
                    if not held or within(session, Place(gtid=gtids), held):
                        break
                    await asyncio.sleep(_HAS_PAUSE)
        finally:
            session.close()

    async def shown(self) -> Place:
        """Return what every reader of the host sees now. Raises DatabaseError."""
        session = await self.open()
        try:
            return await (
                session.visible_place() if self.source is None else applied_place(session)
            )
        finally:
            session.close()

    async def passed(self, session: Session, pending: list[Pending], progress: Progress) -> int:
        """Return how many of the transactions, from the first on, are visible now. Raises DatabaseError."""
        if self.source is None:
            return await passed(session, pending, progress)
        return await applied(session, pending)

    async def wait_until_shown(self, session: Session, progress: Progress) -> None:
        """Return when all that was heard until now is visible. Raises DatabaseError."""
        if self.source is None:
            await wait_until_visible(session, progress.place)
        else:
            while not await wait_until_applied(session, progress.reached):
                pass

    async def compare_with_source(
        self, has_heard: Callable[[Place], bool], clock: Callable[[], float]
    ) -> None:
        """See for ever that the host shows nothing that its source's log does not say. Raises DatabaseError."""
        session = await self.open()
        try:
            await compare_with_source(session, self.replica.host, has_heard, clock)
        finally:
            session.close()
