"""Brings statements to connections: the queue, the connection budget, the deadlines, and what follows when a connection or a host fails.

Everything here happens in callbacks, each of which decides and acts in one go: nothing can change between a check and what relies on it. A
reply settles its statement and sends the next one on the same connection in the same loop iteration.

A statement whose connection dies under it is sent once more, on a fresh connection: all of them only read. A host is taken to be down when
it cannot be connected to, or when a query timed out and no other was answered for half that time. While every host is down, statements
fail at once. A probe connects to each host that is down, once a second, and whatever reply or connection comes through brings the host
back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from mailmapd.databases.interface import outcome_of
from mailmapd.databases.mysql_errors import Blame, judge
from mailmapd.databases.mysql_job import Job, read_result
from mailmapd.databases.mysql_login import LoginCut
from mailmapd.errors import DatabaseError, DatabaseOverloaded, DatabaseUnavailable, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from mailmapd.databases.interface import DatabaseObserver
    from mailmapd.databases.mysql_connection import MysqlConnection
    from mailmapd.databases.mysql_host import Host, HostGroups
    from mailmapd.databases.mysql_opener import MysqlOpener
    from mailmapd.databases.settings import MysqlSettings
    from mailmapd.model import ResultSet
    from mailmapd.template.statement import Statement

logger = logging.getLogger(__name__)

STALL = 0.3
"""After so many seconds without success, a second host is tried beside the first."""

PAUSE = 1.0
"""For so many seconds no connection is added to a host that refuses more, while those it has work."""

CLOSING = 2.0
"""So many seconds are given to connections to close in order."""

MAX_CUTS = 8
"""A host that cut short more logins in a row is down."""

MAX_LOSSES = 1
"""A statement is sent again after so many lost connections: a second loss may be its own doing."""


class Dispatcher:
    """Runs the statements of one database; it owns every pooled connection."""

    def __init__(
        self,
        name: str,
        settings: MysqlSettings,
        hosts: HostGroups,
        *,
        opener: MysqlOpener,
        observer: DatabaseObserver,
        clock: Callable[[], float],
        probe_interval: float,
    ) -> None:
        self._name = name
        self._settings = settings
        self._hosts = hosts
        self._by_label = {host.label: host for host in hosts.hosts}
        self._opener = opener
        self._observer = observer
        self._clock = clock
        self._probe_interval = probe_interval
        self._queue: deque[Job] = deque()
        self._jobs: dict[MysqlConnection, Job] = {}
        self._open: set[MysqlConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._probes: dict[Host, asyncio.Task[None]] = {}
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._all_closed: asyncio.Event | None = None
        self._closed = False
        self._tick = max(0.01, min(0.25, settings.query_timeout / 8, settings.queue_timeout / 8))

    # What callers do

    def submit(self, statement: Statement) -> asyncio.Future[ResultSet]:
        """Start a statement and return the future of its rows. Raises what can be told at once."""
        if self._closed:
            raise DatabaseUnavailable(f"database {self._name} is closed")
        now = self._clock()
        job = Job(statement, asyncio.get_running_loop().create_future(), now)
        connection = None if self._queue else self._hosts.take_idle()
        if connection is not None:
            self._send(connection, job, now)
            return job.future
        if not self._hosts.preferred:
            raise self._refuse(DatabaseUnavailable(self._why_down()))
        if len(self._queue) >= self._settings.max_queued:
            raise self._refuse(DatabaseOverloaded(f"database {self._name}: {len(self._queue)} lookups wait already (max_queued)"))
        self._queue.append(job)
        self._watch_deadlines()
        self._connect_more()
        return job.future

    async def close(self) -> None:
        """Fail what waits or runs, and close every connection."""
        self._closed = True
        text = f"database {self._name} is closed"
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        for connection, job in list(self._jobs.items()):
            self._fail(job, DatabaseUnavailable(text), connection.host)
            connection.abort()
        self._jobs.clear()
        self._fail_queue(text)
        for host in self._hosts.hosts:
            host.busy.clear()
            host.close_idle()
        for timer in (self._deadline_timer, self._idle_timer):
            if timer is not None:
                timer.cancel()
        self._deadline_timer = self._idle_timer = None
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._open:
            self._all_closed = asyncio.Event()
            try:
                async with asyncio.timeout(CLOSING):
                    await self._all_closed.wait()
            except TimeoutError:
                for connection in list(self._open):
                    connection.abort()

    # What connections tell

    def replied(self, connection: MysqlConnection) -> None:
        """Settle the statement that a connection has answered, and give the connection its next one."""
        host = self._by_label[connection.host]
        now = self._clock()
        job = self._jobs.pop(connection)
        host.busy.discard(connection)
        host.last_reply = now
        reader = connection.reader
        reusable = not connection.in_transaction
        if reader.error is None:
            try:
                result = read_result(reader, job.statement, host.label)
            except DatabaseError as error:
                self._fail(job, error, host.label)
            else:
                if not job.future.done():
                    job.future.set_result(result)
                self._observer.query_finished(self._name, host.label, "ok", now - job.sent_at)
        else:
            verdict = judge(reader.error, job.statement, host.label)
            if verdict.blame is Blame.CONNECTION:
                self._drop(connection)
                self._try_again(job, verdict.error)
                return
            if verdict.blame is Blame.UNKNOWN:
                logger.warning("database %s: %s", self._name, verdict.error)
            self._fail(job, verdict.error, host.label, "timeout" if verdict.blame is Blame.TIMEOUT else "")
            reusable = reusable and not job.is_call
        if host.down:
            self._mark_up(host)
        if reusable:
            self._place(host, connection, now)
        else:
            self._drop(connection)
            self._connect_more()

    def lost(self, connection: MysqlConnection, reason: str) -> None:
        """Forget a connection that ended; its statement is tried again elsewhere."""
        host = self._by_label[connection.host]
        host.forget(connection)
        self._open.discard(connection)
        if self._all_closed is not None and not self._open:
            self._all_closed.set()
        job = self._jobs.pop(connection, None)
        if job is not None and connection.reader.overflow:
            self._fail(job, DataError(f"{host.label}: table {job.statement.table}: {reason}", host=host.label), host.label)
            self._connect_more()
        elif job is not None:
            # What happened to this connection has probably happened to the others, and one may not know it yet.
            host.generation += 1
            host.close_idle()
            self._try_again(job, DatabaseUnavailable(f"{host.label}: {reason}", host=host.label))

    # Statements

    def _send(self, connection: MysqlConnection, job: Job, now: float) -> None:
        job.sent_at = now
        self._jobs[connection] = job
        self._by_label[connection.host].busy.add(connection)
        connection.send(job.statement.render(connection.quote))
        if self._deadline_timer is None:
            self._watch_deadlines()

    def _place(self, host: Host, connection: MysqlConnection, now: float) -> None:
        """Give a free connection the next statement, or keep it; let it go if it is suspect, or only stood in for a better host."""
        preferred = self._hosts.preferred
        stands_in = host not in preferred and self._hosts.to_connect(now) in preferred
        if stands_in or connection.generation != host.generation:
            self._drop(connection)
            self._connect_more()
            return
        queue = self._queue
        while queue:
            job = queue.popleft()
            if not job.future.done():
                self._send(connection, job, now)
                return
        if host in preferred and self._hosts.connections < self._settings.pool_size:
            connection.idle_since = now
            host.idle.append(connection)
            if self._idle_timer is None:
                self._watch_idle()
        else:
            self._drop(connection)

    def _try_again(self, job: Job, error: DatabaseUnavailable | DatabaseError) -> None:
        """Queue a statement whose connection was lost, in front of the others; a second loss fails it."""
        job.losses += 1
        if self._closed or job.losses > MAX_LOSSES:
            self._fail(job, error, error.host)
        elif not job.future.done():
            job.queued_at = self._clock()
            self._queue.appendleft(job)
            self._watch_deadlines()
        self._serve_queue()

    def _serve_queue(self) -> None:
        """Use idle connections for what waits, then open more."""
        while self._queue and (connection := self._hosts.take_idle()) is not None:
            self._place(self._by_label[connection.host], connection, self._clock())
        self._connect_more()

    def _fail(self, job: Job, error: DatabaseError, host: str, outcome: str = "") -> None:
        if not job.future.done():
            job.future.set_exception(error)
        self._observer.query_finished(self._name, host, outcome or outcome_of(error), self._clock() - job.sent_at)

    def _fail_queue(self, text: str) -> None:
        queue, self._queue = self._queue, deque()
        for job in queue:
            self._fail(job, DatabaseUnavailable(text), "")

    def _refuse(self, error: DatabaseError) -> DatabaseError:
        self._observer.query_finished(self._name, "", outcome_of(error), 0.0)
        return error

    # Connections

    def _connect_more(self) -> None:
        """Open as many connections as statements wait, within the budget."""
        if self._closed:
            return
        hosts = self._hosts
        wanted = len(self._queue) - sum([host.connecting - host.stalled for host in hosts.hosts])
        room = self._settings.pool_size - hosts.connections
        now = self._clock()
        for _ in range(min(wanted, room)):
            host = hosts.to_connect(now)
            if host is None:
                break
            host.connecting += 1
            self._start(self._connect(host))

    async def _connect(self, host: Host) -> None:
        """Open one connection for the queue."""
        stalled = False

        def stall() -> None:
            nonlocal stalled
            stalled = True
            host.stalled += 1
            self._connect_more()

        timer = asyncio.get_running_loop().call_later(STALL, stall)
        connection: MysqlConnection | None = None
        failure: DatabaseError | None = None
        try:
            connection = await self._opener.open(host.address, self)
        except DatabaseError as error:
            failure = error
        finally:
            timer.cancel()
            host.connecting -= 1
            host.stalled -= stalled
        if connection is not None:
            self._opened(host, connection)
        elif failure is not None:
            self._connect_failed(host, failure)

    def _opened(self, host: Host, connection: MysqlConnection) -> None:
        self._open.add(connection)
        if self._closed:
            connection.close()
            return
        host.cuts = 0
        connection.generation = host.generation
        if host.down:
            self._mark_up(host)
        self._place(host, connection, self._clock())

    def _connect_failed(self, host: Host, error: DatabaseError) -> None:
        """Wait a little if the host still serves other connections, or may yet accept one; else take it to be down."""
        host.last_error = str(error)
        host.cuts += isinstance(error, LoginCut)
        if isinstance(error, LoginCut) and host.cuts <= MAX_CUTS:
            self._connect_more()
            return
        if (host.connections or host.connecting) and not host.down:
            now = self._clock()
            if host.connections and host.paused_until <= now:
                logger.warning("database %s: no further connection: %s", self._name, error)
            host.paused_until = now + PAUSE
        else:
            self._mark_down(host, error, self._probe_interval)
        self._connect_more()

    def _drop(self, connection: MysqlConnection) -> None:
        self._by_label[connection.host].forget(connection)
        connection.close()

    # Hosts

    def _mark_down(self, host: Host, error: DatabaseError, probe_after: float) -> None:
        """Leave a host alone until a probe finds it back; without another host, fail what waits."""
        host.last_error = str(error)
        if host.down or self._closed:
            return
        self._hosts.set_down(host, down=True)
        logger.warning("database %s: host is down, trying again every %g s: %s", self._name, self._probe_interval, error)
        self._observer.host_state(self._name, host.label, up=False)
        host.close_idle()
        self._probes[host] = self._start(self._probe(host, probe_after))
        if not self._hosts.preferred:
            self._fail_queue(self._why_down())

    def _why_down(self) -> str:
        return f"database {self._name}: no host answers: {self._hosts.why_down()}"

    def _mark_up(self, host: Host) -> None:
        """Ask a host again, and let go of those that only stood in for it."""
        self._hosts.set_down(host, down=False)
        host.last_error = ""
        host.paused_until = float("-inf")
        probe = self._probes.pop(host, None)
        if probe is not None and probe is not asyncio.current_task():
            probe.cancel()
        logger.info("database %s: host %s is up again", self._name, host.label)
        self._observer.host_state(self._name, host.label, up=True)
        for other in self._hosts.hosts:
            if other not in self._hosts.preferred:
                other.close_idle()

    async def _probe(self, host: Host, delay: float) -> None:
        """Connect to a host that is down until it works; attempts start `probe_interval` apart, or as soon as the last one has failed."""
        loop = asyncio.get_running_loop()
        while host.down:
            await asyncio.sleep(delay)
            started = loop.time()
            try:
                connection = await self._opener.open(host.address, self)
            except DatabaseError as error:
                host.last_error = str(error)
                delay = max(0.0, self._probe_interval - (loop.time() - started))
            else:
                self._opened(host, connection)
                return

    # Time

    def housekeep(self) -> None:
        """Fail what is past its deadline, and close connections that have been idle for idle_interval."""
        now = self._clock()
        for connection, job in [item for item in self._jobs.items() if now - item[1].sent_at >= self._settings.query_timeout]:
            self._timed_out(connection, job)
        self._expire_queue(now)
        for host in self._hosts.hosts:
            for connection in [idle for idle in host.idle if now - idle.idle_since >= self._settings.idle_interval]:
                self._drop(connection)

    def _timed_out(self, connection: MysqlConnection, job: Job) -> None:
        """Fail a statement that runs for too long, with its connection; suspect the host if it has answered nothing since."""
        host = self._by_label[connection.host]
        self._jobs.pop(connection, None)
        host.forget(connection)
        connection.abort()
        text = f"{host.label}: table {job.statement.table}: no reply within query_timeout ({self._settings.query_timeout:g} s)"
        error = DatabaseUnavailable(text, host=host.label)
        self._fail(job, error, host.label, "timeout")
        if self._clock() - host.last_reply >= self._settings.query_timeout / 2:
            self._mark_down(host, error, probe_after=0.0)
        self._connect_more()

    def _expire_queue(self, now: float) -> None:
        timeout = self._settings.queue_timeout
        expired = [job for job in self._queue if now - job.queued_at >= timeout or job.future.done()]
        if not expired:
            return
        gone = set(expired)
        self._queue = deque([job for job in self._queue if job not in gone])
        for job in expired:
            if not self._jobs:
                error: DatabaseError = DatabaseUnavailable(f"database {self._name}: no connection within queue_timeout ({timeout:g} s)")
            else:
                error = DatabaseOverloaded(f"database {self._name}: all connections were busy for queue_timeout ({timeout:g} s)")
            if not job.future.done():
                self._fail(job, error, "")

    def _watch_deadlines(self) -> None:
        if self._deadline_timer is None and not self._closed:
            self._deadline_timer = asyncio.get_running_loop().call_later(self._tick, self._deadlines_due)

    def _deadlines_due(self) -> None:
        self._deadline_timer = None
        self.housekeep()
        self._serve_queue()
        if self._jobs or self._queue:
            self._watch_deadlines()

    def _watch_idle(self) -> None:
        if self._idle_timer is None and not self._closed:
            self._idle_timer = asyncio.get_running_loop().call_later(max(0.05, self._settings.idle_interval / 4), self._idle_due)

    def _idle_due(self) -> None:
        self._idle_timer = None
        self.housekeep()
        if any(host.idle for host in self._hosts.hosts):
            self._watch_idle()

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
