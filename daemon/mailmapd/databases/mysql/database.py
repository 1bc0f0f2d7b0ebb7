"""MySQL and MariaDB: a server group with failover, as mysql_table(5) has it, but without waiting for any of it.

Values come as the server's text form, in the connection's character set; each connection quotes for its
own character set and SQL mode.
"""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import TYPE_CHECKING

from mailmapd.databases.host_list import parse_hosts
from mailmapd.databases.interface import DatabaseObserver, Done, HostStatus, SilentObserver
from mailmapd.databases.mysql.dispatch import Dispatcher
from mailmapd.databases.mysql.host import Expected, HostGroups
from mailmapd.databases.mysql.opener import MysqlOpener
from mailmapd.databases.mysql.pool import ConnectionPool
from mailmapd.databases.mysql.stream import RowStream
from mailmapd.databases.mysql.watch import HostWatch
from mailmapd.errors import DatabaseError, DatabaseOverloaded, DatabaseUnavailable
from mailmapd.template.sql_quoting import make_quote

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from mailmapd.databases.mysql.connection import MysqlConnection
    from mailmapd.databases.settings import MysqlSettings
    from mailmapd.model import ResultSet, Row
    from mailmapd.template.statement import Statement

PROBE_INTERVAL = 1.0
"""Seconds between two tries of a host that is down: service is back soon after the host."""

MAX_STREAMS = 2
"""Long results that are read at once, each on a connection of its own beside the pool."""

STREAM_PATIENCE = 30.0
"""Seconds without a byte of the server after which a long result fails."""


class MysqlDatabase:
    """A MySQL or MariaDB server group. Raises ValueError for a host, replica or character set that cannot be.

    `clock` gives monotonic seconds, `rng` chooses among equal hosts.
    """

    def __init__(
        self,
        name: str,
        settings: MysqlSettings,
        observer: DatabaseObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        *,
        probe_interval: float = PROBE_INTERVAL,
    ) -> None:
        addresses = parse_hosts(settings.hosts)
        labels = [address.label for address in addresses]
        for replica in settings.replicas:
            if replica not in labels:
                raise ValueError(f"replicas: {replica} is not one of hosts ({', '.join(labels)})")
        self._name = name
        self._settings = settings
        self._opener = MysqlOpener(settings)
        # # choosing a host is no secret
        self._hosts = HostGroups(addresses, settings.replicas, rng or random.Random())  # noqa: S311
        observer = observer or SilentObserver()
        interval = min(probe_interval, settings.retry_interval)
        watch = HostWatch(
            name, self._hosts, opener=self._opener, observer=observer, interval=interval
        )
        pool = ConnectionPool(
            name, settings, self._hosts, opener=self._opener, watch=watch, clock=clock
        )
        self._pool = pool
        self._dispatcher = Dispatcher(
            name, settings, self._hosts, pool, observer=observer, clock=clock
        )
        self._streams = asyncio.Semaphore(MAX_STREAMS)
        self._streaming: set[RowStream] = set()
        self._closed = False

    @property
    def name(self) -> str:
        """Return the configured name."""
        return self._name

    def submit(self, statement: Statement, done: Done) -> None:
        """Run the statement and tell its rows, or why there are none."""
        self._dispatcher.submit(statement, done)

    async def fetch(self, statement: Statement) -> ResultSet:
        """Run the statement and return all of its rows."""
        rows: asyncio.Future[ResultSet] = asyncio.get_running_loop().create_future()
        job = self._dispatcher.submit(statement, partial(_settle, rows))
        try:
            return await rows
        finally:
            job.give_up()

    async def stream(
        self, statement: Statement, batch: int = 1000
    ) -> AsyncGenerator[tuple[tuple[str, ...], Sequence[Row]], None]:
        """Run the statement on a connection of its own and yield the rows as the caller takes them."""
        try:
            async with asyncio.timeout(self._settings.queue_timeout):
                await self._streams.acquire()
        except TimeoutError:
            raise DatabaseOverloaded(
                f"database {self._name}: {MAX_STREAMS} long results are being read already"
            ) from None
        stream: RowStream | None = None
        try:
            connection = await self._open_for_stream()
            stream = RowStream(
                connection, statement, batch, max(STREAM_PATIENCE, self._settings.query_timeout)
            )
            self._streaming.add(stream)
            async for item in stream.rows():
                yield item
        finally:
            if stream is not None:
                self._streaming.discard(stream)
                stream.abort()
            self._streams.release()

    def describe(self, statement: Statement) -> str:
        """Return the SQL as a connection in use would send it, or one to a server with default settings.

        Raises DataError where that connection's SQL mode does not go with it.
        """
        connections = [
            connection for host in self._hosts.hosts for connection in (*host.idle, *host.busy)
        ]
        quote = (
            connections[0].quote
            if connections
            else make_quote(self._settings.charset, no_backslash_escapes=False)
        )
        return statement.render(quote).decode("utf-8", "backslashreplace")

    def status(self) -> list[HostStatus]:
        """Return the state of every host, in the order of the configuration."""
        return [host.status() for host in self._hosts.hosts]

    def expect(self, label: str, expected: Expected | None) -> None:
        """Have each connection to a host reach one server, or somebody hear of it before it is used."""
        for host in self._hosts.hosts:
            if host.label == label:
                self._pool.expect(host, expected)

    def housekeep(self) -> None:
        """Act on whatever is due by the clock: deadlines, idle connections.

        The event loop's timers do this by themselves.
        """
        self._dispatcher.housekeep()

    async def close(self) -> None:
        """Close every connection; what waits or runs fails with DatabaseUnavailable."""
        self._closed = True
        for stream in list(self._streaming):
            stream.abort()
        await self._dispatcher.close()

    async def _open_for_stream(self) -> MysqlConnection:
        """Connect to the first host that lets us. Raises the last host's DatabaseUnavailable."""
        failure: DatabaseError = DatabaseUnavailable(
            f"database {self._name}: no host answers: {self._hosts.why_down()}"
        )
        for host in self._hosts.in_order():
            try:
                connection = await self._opener.open(
                    host.address, self._dispatcher, limit_queries=False
                )
            except DatabaseError as error:
                failure = error
                continue
            if not self._closed:
                return connection
            connection.abort()
        if self._closed:
            raise DatabaseUnavailable(f"database {self._name} is closed")
        raise failure


def _settle(rows: asyncio.Future[ResultSet], result: ResultSet | DatabaseError) -> None:
    if rows.done():
        return
    if isinstance(result, DatabaseError):
        rows.set_exception(result)
    else:
        rows.set_result(result)
