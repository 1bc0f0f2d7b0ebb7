"""Brings statements to connections.

The queue, the deadlines, and what becomes of a statement when its connection fails.

A reply settles its statement and sends the next one on the same connection in the same loop
iteration. A statement whose connection ends under it is sent once more, on a connection opened
since, if it can have changed nothing: its text only reads, or the server had agreed to refuse
writes. Any other fails, for it may have been carried out. One that runs beyond query_timeout fails
with its connection, and its host is suspect if it has answered nothing for half that time. While
every host is down, statements fail at once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from mailmapd.databases.interface import outcome_of
from mailmapd.databases.mysql.errors import Blame, Verdict, judge
from mailmapd.databases.mysql.job import Job, JobQueue, read_result
from mailmapd.errors import DatabaseError, DatabaseOverloaded, DatabaseUnavailable, DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailmapd.databases.interface import DatabaseObserver, Done
    from mailmapd.databases.mysql.connection import MysqlConnection
    from mailmapd.databases.mysql.host import Host, HostGroups
    from mailmapd.databases.mysql.pool import ConnectionPool
    from mailmapd.databases.settings import MysqlSettings
    from mailmapd.model import ResultSet
    from mailmapd.template.statement import Statement

log = logging.getLogger(__name__)

MAX_LOSSES = 1
"""Lost connections after which a statement is sent again: a second loss may be its own doing."""


class Dispatcher:
    """Runs the statements of one database on the connections of its pool."""

    def __init__(
        self,
        name: str,
        settings: MysqlSettings,
        hosts: HostGroups,
        pool: ConnectionPool,
        *,
        observer: DatabaseObserver,
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._settings = settings
        self._hosts = hosts
        self._pool = pool
        self._observer = observer
        self._clock = clock
        self._queue = JobQueue(settings.max_queued)
        self._jobs: dict[MysqlConnection, Job] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._tick = max(0.01, min(0.25, settings.query_timeout / 8, settings.queue_timeout / 8))
        self._closed = False
        pool.serve(self)

    # Callers

    def submit(self, statement: Statement, done: Done) -> Job:
        """Start a statement; `done` is told its rows, or why there are none, later."""
        now = self._clock()
        job = Job(statement, done, now)
        if self._closed:
            self._settle_soon(job, DatabaseUnavailable(self._closed_text()))
            return job
        # Nobody overtakes those who wait
        connection = None if self._queue.waiting else self._pool.take_idle()
        if connection is not None:
            if not self._send(connection, job, now):
                self._pool.keep(self._pool.host_of(connection), connection, now)
        elif not self._hosts.preferred:
            self._fail(job, DatabaseUnavailable(self._down_text()), "")
        elif self._queue.is_full:
            self._fail(
                job,
                DatabaseOverloaded(
                    f"database {self._name}: {len(self._queue)} lookups wait already (max_queued)"
                ),
                "",
            )
        else:
            self._queue.append(job)
            self._watch_deadlines()
            self._pool.connect_more()
        return job

    async def close(self) -> None:
        """Fail what waits or runs, and close the pool."""
        self._closed = True
        for connection, job in self._jobs.items():
            self._fail(job, DatabaseUnavailable(self._closed_text()), connection.host)
        self._jobs.clear()
        self._fail_queue(self._closed_text())
        if self._timer is not None:
            self._timer.cancel()
        await self._pool.close()

    # Connections

    def replied(self, connection: MysqlConnection) -> None:
        """Settle the statement that a connection has answered, and give the connection its next one."""
        pool = self._pool
        host = pool.host_of(connection)
        now = self._clock()
        job = self._jobs.pop(connection)
        reader = connection.reader
        # An open transaction would show later queries what was there when it began
        reusable = not connection.in_transaction
        result: ResultSet | None = None
        if reader.error is None:
            try:
                result = read_result(reader, job.statement, host.label)
            except DataError as error:
                self._fail(job, error, host.label)
        else:
            verdict = judge(reader.error, job.statement, host.label)
            if verdict.blame in (Blame.CONNECTION, Blame.HOST):
                if verdict.blame is Blame.HOST:
                    pool.refused(host, verdict.error)
                pool.drop(connection)
                self._try_again(connection, job, verdict.error)
                return
            self._refused(job, verdict)
            # A procedure that failed half-way may have changed the session
            reusable = reusable and not job.is_call
        pool.replied(host, now)
        if reusable:
            self._go_on(host, connection, now)
        else:
            pool.drop(connection)
        if result is not None:
            self._observer.query_finished(self._name, host.label, "ok", now - job.sent_at)
            # Last of all: whoever is told may well ask the next question at once
            job.settle(result)

    def lost(self, connection: MysqlConnection, reason: str) -> None:
        """Try the statement of a connection that ended elsewhere."""
        job = self._jobs.pop(connection, None)
        overflow = connection.reader.overflow
        self._pool.lost(connection, in_use=job is not None and not overflow)
        if job is None:
            return
        if overflow:
            self._fail(
                job,
                DataError(
                    f"{connection.host}: table {job.statement.table}: {reason}",
                    host=connection.host,
                ),
                connection.host,
            )
            self._pool.connect_more()
        else:
            self._try_again(
                connection,
                job,
                DatabaseUnavailable(f"{connection.host}: {reason}", host=connection.host),
            )

    def connection_free(self, host: Host, connection: MysqlConnection) -> None:
        """Send the next statement on a free connection, or have the pool keep it."""
        self._go_on(host, connection, self._clock())

    def _go_on(self, host: Host, connection: MysqlConnection, now: float) -> None:
        if not self._pool.may_be_used(host, connection, now):
            self._pool.drop(connection)
            return
        while (job := self._queue.next()) is not None:
            if self._send(connection, job, now):
                return
        self._pool.keep(host, connection, now)

    def connections_wanted(self) -> int:
        """Return how many statements wait."""
        return len(self._queue)

    def all_down(self) -> None:
        """Fail what waits: no host answers."""
        self._fail_queue(self._down_text())

    # Statements

    def _send(self, connection: MysqlConnection, job: Job, now: float) -> bool:
        """Send a statement; return whether it could be: the connection's SQL mode may not go with its text."""
        job.sent_at = now
        try:
            sql = job.statement.render(connection.quote)
        except DataError as error:
            self._fail(job, DataError(f"{connection.host}: {error}", host=connection.host), "")
            return False
        self._jobs[connection] = job
        connection.send(sql)
        if self._timer is None:
            self._watch_deadlines()
        return True

    def _try_again(self, connection: MysqlConnection, job: Job, error: DatabaseError) -> None:
        """Queue a statement whose connection was lost, before all others; a second loss fails it."""
        job.losses += 1
        if not (job.statement.only_reads or connection.read_only):
            text = f"{error}; table {job.statement.table} may have written, so its query is not sent again"
            self._fail(job, DatabaseUnavailable(text, host=error.host), error.host)
        elif self._closed or job.losses > MAX_LOSSES:
            self._fail(job, error, error.host)
        elif not self._hosts.preferred:
            self._fail(job, DatabaseUnavailable(self._down_text()), error.host)
        elif job.done is not None:
            self._queue.put_back(job, self._clock())
            self._watch_deadlines()
        self._serve_queue()

    def _serve_queue(self) -> None:
        """Use idle connections for what waits, then open more."""
        while self._queue and (connection := self._pool.take_idle()) is not None:
            self.connection_free(self._pool.host_of(connection), connection)
        self._pool.connect_more()

    def _refused(self, job: Job, verdict: Verdict) -> None:
        if verdict.blame is Blame.UNKNOWN:
            log.warning("database %s: %s", self._name, verdict.error)
        self._fail(
            job,
            verdict.error,
            verdict.error.host,
            "timeout" if verdict.blame is Blame.TIMEOUT else "",
        )

    def _fail(self, job: Job, error: DatabaseError, host: str, outcome: str = "") -> None:
        self._settle_soon(job, error)
        self._observer.query_finished(
            self._name, host, outcome or outcome_of(error), self._clock() - job.sent_at
        )

    def _settle_soon(self, job: Job, error: DatabaseError) -> None:
        """Tell a failure when everything here is in order again: whoever is told may ask the next at once."""
        asyncio.get_running_loop().call_soon(job.settle, error)

    def _fail_queue(self, text: str) -> None:
        for job in self._queue.take_all():
            self._fail(job, DatabaseUnavailable(text), "")

    def _down_text(self) -> str:
        return f"database {self._name}: no host answers: {self._hosts.why_down()}"

    def _closed_text(self) -> str:
        return f"database {self._name} is closed"

    # Deadlines

    def housekeep(self) -> None:
        """Fail what is past its deadline, and close connections that have been idle for idle_interval."""
        now = self._clock()
        for connection, job in [
            item
            for item in self._jobs.items()
            if now - item[1].sent_at >= self._settings.query_timeout
        ]:
            self._timed_out(connection, job)
        self._expire_queue(now)
        self._pool.close_idle(now)

    def _timed_out(self, connection: MysqlConnection, job: Job) -> None:
        """Fail a statement that runs for too long, with its connection; suspect a host that has fallen silent."""
        host = self._pool.host_of(connection)
        timeout = self._settings.query_timeout
        del self._jobs[connection]
        host.forget(connection)
        connection.abort()
        text = f"{host.label}: table {job.statement.table}: no reply within query_timeout ({timeout:g} s)"
        error = DatabaseUnavailable(text, host=host.label)
        self._fail(job, error, host.label, "timeout")
        if self._clock() - host.last_reply >= timeout / 2:
            self._pool.suspect(host, error)
        self._pool.connect_more()

    def _expire_queue(self, now: float) -> None:
        timeout = self._settings.queue_timeout
        for job in self._queue.take_expired(now - timeout):
            if self._jobs:
                error: DatabaseError = DatabaseOverloaded(
                    f"database {self._name}: all connections were busy for queue_timeout ({timeout:g} s)"
                )
            else:
                error = DatabaseUnavailable(
                    f"database {self._name}: no connection within queue_timeout ({timeout:g} s)"
                )
            self._fail(job, error, "")

    def _watch_deadlines(self) -> None:
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(self._tick, self._deadlines_due)
            self._due = self._timer.when()

    def _deadlines_due(self) -> None:
        self._timer = None
        if asyncio.get_running_loop().time() > self._due + self._tick:
            # The loop, or the whole process, was held up: read the replies that came meanwhile
            # before judging their lateness.
            self._watch_deadlines()
            return
        self.housekeep()
        self._serve_queue()
        if self._jobs or self._queue:
            self._watch_deadlines()
