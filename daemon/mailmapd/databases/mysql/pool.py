"""The pool: opens connections within the budget and keeps the idle ones.

A host is down when it cannot be connected to while it has no other connection, or when its user
says so (`suspect`, `refused`). A probe connects to each host that is down, once a second, and
whatever connection or reply comes through brings the host back. Idle connections are forgotten as
soon as they end, and when one ends in use all others of its host are suspect and replaced.

Everything here happens in callbacks, each of which decides and acts in one go: nothing can change
between a check and what relies on it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from mailmapd.databases.mysql.connection import ConnectionOwner
from mailmapd.databases.mysql.login import LoginCut
from mailmapd.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from mailmapd.databases.mysql.connection import MysqlConnection
    from mailmapd.databases.mysql.host import Expected, Host, HostGroups
    from mailmapd.databases.mysql.opener import MysqlOpener
    from mailmapd.databases.mysql.watch import HostWatch
    from mailmapd.databases.settings import MysqlSettings

log = logging.getLogger(__name__)

STALL = 0.3
"""Seconds without success after which a second host is tried beside the first."""

PAUSE = 1.0
"""Seconds for which no connection is added to a host that refuses more, while those it has work."""

CLOSING = 2.0
"""Seconds that connections have to close in order."""

MAX_CUTS = 8
"""A host that cut short more logins in a row is down."""


LIFETIME = 300.0
"""Seconds after which a connection to a host given by name is replaced.

Each new one follows the name to where it leads by then.
"""


class PoolUser(ConnectionOwner, Protocol):
    """Uses the connections, and is told what becomes of the pool."""

    def connection_free(self, host: Host, connection: MysqlConnection) -> None:
        """Hear that a connection may be used."""

    def connections_wanted(self) -> int:
        """Return how many connections could be used now, beside those that are open."""
        ...

    def all_down(self) -> None:
        """Hear that no host answers any more."""


class ConnectionPool:
    """The connections of one database."""

    def __init__(
        self,
        name: str,
        settings: MysqlSettings,
        hosts: HostGroups,
        *,
        opener: MysqlOpener,
        watch: HostWatch,
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._settings = settings
        self._hosts = hosts
        self._by_label = {host.label: host for host in hosts.hosts}
        self._opener = opener
        self._clock = clock
        self._watch = watch
        self._user: PoolUser
        self._open: set[MysqlConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._all_closed: asyncio.Event | None = None
        self._closed = False

    def serve(self, user: PoolUser) -> None:
        """Take the one user of the connections."""
        self._user = user
        self._watch.start(self, user)

    def host_of(self, connection: MysqlConnection) -> Host:
        """Return the host of a connection."""
        return self._by_label[connection.host]

    def take_idle(self) -> MysqlConnection | None:
        """Return an idle connection to a host that is to be asked now, as busy."""
        connection = self._hosts.take_idle()
        if connection is not None:
            self._by_label[connection.host].busy.add(connection)
        return connection

    def may_be_used(self, host: Host, connection: MysqlConnection, now: float) -> bool:
        """Tell whether a free connection may have another statement.

        Not if it is suspect or old, or only stood in for a better host.
        """
        if connection.generation != host.generation or now >= connection.retires_at:
            return False
        preferred = self._hosts.preferred
        return host in preferred or self._hosts.to_connect(now) not in preferred

    def keep(self, host: Host, connection: MysqlConnection, now: float) -> None:
        """Keep a free connection for later, if its host is one to ask."""
        host.busy.discard(connection)
        if host in self._hosts.preferred:
            connection.idle_since = now
            host.idle.append(connection)
            if self._idle_timer is None:
                self._watch_idle()
        else:
            # It stood in while better hosts were down; idle here, it would go on being asked
            connection.close()

    def drop(self, connection: MysqlConnection) -> None:
        """Close a connection, and open another one if it is missed."""
        self._by_label[connection.host].forget(connection)
        connection.close()
        self.connect_more()

    def lost(self, connection: MysqlConnection, in_use: bool) -> None:
        """Forget a connection that has ended."""
        host = self._by_label[connection.host]
        host.forget(connection)
        self._open.discard(connection)
        if self._all_closed is not None and not self._open:
            self._all_closed.set()
        if in_use:
            # The server may be gone, and then every idle connection to it is: none of before is used again
            host.generation += 1
            host.close_idle()

    def replied(self, host: Host, now: float) -> None:
        """Note a sign of life."""
        host.last_reply = now
        if host.down:
            self._watch.mark_up(host)

    def refused(self, host: Host, error: DatabaseError) -> None:
        """Take a host that lets us in but answers no query to be down.

        Connections that are being opened now prove nothing.
        """
        host.refusals += 1
        self._watch.mark_down(host, error)

    def suspect(self, host: Host, error: DatabaseError) -> None:
        """Take a host to be down until a connection proves the contrary, at once or later."""
        self._watch.mark_down(host, error, suspect=True)

    def all_down(self) -> None:
        """Tell the user that no host answers any more."""
        self._user.all_down()

    def connect_more(self) -> None:
        """Open as many connections as are wanted, within the budget."""
        hosts = self._hosts
        if self._closed or hosts.connections >= self._settings.pool_size:
            return
        # One that takes long may never come: another one is opened beside it
        wanted = self._user.connections_wanted() - sum(
            [host.connecting - host.stalled for host in hosts.hosts]
        )
        now = self._clock()
        for _ in range(min(wanted, self._settings.pool_size - hosts.connections)):
            host = hosts.to_connect(now)
            if host is None:
                break
            host.connecting += 1
            self._start(self._connect(host, host.refusals))

    def expect(self, host: Host, expected: Expected | None) -> None:
        """Have somebody hear of each new connection that reaches another server; use none any more that does."""
        host.expected = expected
        self._opener.identifies = any(host.expected is not None for host in self._hosts.hosts)
        if expected is not None and any(
            connection.identity != expected.identity for connection in (*host.idle, *host.busy)
        ):
            host.generation += 1
            host.close_idle()

    def close_idle(self, now: float) -> None:
        """Close connections that have been idle for idle_interval."""
        for host in self._hosts.hosts:
            for connection in [
                idle for idle in host.idle if now - idle.idle_since >= self._settings.idle_interval
            ]:
                self.drop(connection)

    async def close(self) -> None:
        """Close every connection; those in use are broken off."""
        self._closed = True
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        for host in self._hosts.hosts:
            for connection in list(host.busy):
                connection.abort()
            host.busy.clear()
            host.close_idle()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        await self._watch.end()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._open:
            self._all_closed = asyncio.Event()
            try:
                async with asyncio.timeout(CLOSING):
                    await self._all_closed.wait()
            except TimeoutError:
                for connection in list(self._open):
                    connection.abort()

    async def _connect(self, host: Host, refusals: int) -> None:
        """Open one connection, and try another host beside if it takes long; `refusals` are the host's so far."""
        stalled = False

        def stall() -> None:
            nonlocal stalled
            stalled = True
            host.stalled += 1
            self.connect_more()

        timer = asyncio.get_running_loop().call_later(STALL, stall)
        connection: MysqlConnection | None = None
        failure: DatabaseError | None = None
        try:
            connection = await self._opener.open(host.address, self._user)
        except DatabaseError as error:
            failure = error
        finally:
            timer.cancel()
            host.connecting -= 1
            host.stalled -= stalled
        if connection is not None and host.refusals != refusals:
            # The host has refused a query since this login began, which therefore does not prove that it is well
            self._open.add(connection)
            connection.close()
            self.connect_more()
        elif connection is not None:
            self.opened(host, connection)
        elif failure is not None:
            self._connect_failed(host, failure)

    def opened(self, host: Host, connection: MysqlConnection) -> None:
        """Take a new connection: the host is up, and the user may have it."""
        self._open.add(connection)
        if self._closed:
            connection.close()
            return
        host.cuts = 0
        if host.expected is not None and connection.identity != host.expected.identity:
            if not connection.identity:  # its opening began before anybody had to know
                connection.close()
                self.connect_more()
                return
            host.expected.strange()
        connection.generation = host.generation
        if host.address.may_move:
            # Those opened together go one a second
            connection.retires_at = self._clock() + LIFETIME - host.connections % 60
        self._watch.mark_up(host)
        if self._hosts.connections >= self._settings.pool_size:
            connection.close()  # a probe's, and the budget is used up
            return
        host.busy.add(connection)
        self._user.connection_free(host, connection)

    def _connect_failed(self, host: Host, error: DatabaseError) -> None:
        """Wait a little if the host still serves other connections, or may yet accept one; else take it to be down."""
        host.last_error = str(error)
        if isinstance(error, LoginCut):
            host.cuts += 1
        if isinstance(error, LoginCut) and host.cuts <= MAX_CUTS:
            pass  # it let us in, so the host is there, and the next one may succeed
        elif (host.connections or host.connecting) and not host.down:
            now = self._clock()
            if host.connections and host.paused_until <= now:
                log.warning("database %s: no further connection: %s", self._name, error)
            host.paused_until = now + PAUSE
        else:
            self._watch.mark_down(host, error)
        self.connect_more()

    def _watch_idle(self) -> None:
        if self._idle_timer is None and not self._closed:
            self._idle_timer = asyncio.get_running_loop().call_later(
                max(0.05, self._settings.idle_interval / 4), self._idle_due
            )

    def _idle_due(self) -> None:
        self._idle_timer = None
        self.close_idle(self._clock())
        if any(host.idle for host in self._hosts.hosts):
            self._watch_idle()

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
