"""Jobs: statements on their way to a connection and back, and the queue in which they wait."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mailmapd.errors import DatabaseError, DataError
from mailmapd.model import EMPTY, ResultSet
from mailmapd.template.sql_lexer import without_comments

if TYPE_CHECKING:
    from mailmapd.databases.interface import Done
    from mailmapd.databases.mysql.wire import ReplyReader
    from mailmapd.template.statement import Statement


_new = tuple.__new__  # ResultSet(…) without its Python-level __new__


class Job:
    """One statement and whom to tell its rows.

    Times are the dispatcher's clock; `losses` counts connections lost under it.
    """

    __slots__ = ("done", "losses", "queued_at", "sent_at", "statement")

    def __init__(self, statement: Statement, done: Done, now: float) -> None:
        self.statement = statement
        self.done: Done | None = done
        self.queued_at = now
        self.sent_at = now
        self.losses = 0

    def settle(self, result: ResultSet | DatabaseError) -> None:
        """Tell the rows or the failure, once, if anybody still waits for them."""
        done, self.done = self.done, None
        if done is not None:
            done(result)

    def give_up(self) -> None:
        """Wait no longer: the job is not sent if it has not been yet, and nobody hears of its rows."""
        self.done = None

    @property
    def is_call(self) -> bool:
        """Tell whether this runs a stored procedure, whose error may leave a transaction open unseen."""
        first = self.statement.pieces[0] if self.statement.pieces else b""
        text = first.decode("latin-1") if isinstance(first, bytes) else ""
        return without_comments(text).lstrip()[:4].upper() == "CALL"


class JobQueue:
    """Jobs that wait for a connection, first come, first served. A job whose caller has given up is passed over.

    `waiting` is for whoever only wants to know whether there are any: the length of a class of ours is a call.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.waiting: deque[Job] = deque()

    def __len__(self) -> int:
        return len(self.waiting)

    @property
    def is_full(self) -> bool:
        """Tell whether no further job may wait."""
        return len(self.waiting) >= self._limit

    def append(self, job: Job) -> None:
        """Let a job wait behind all others."""
        self.waiting.append(job)

    def put_back(self, job: Job, now: float) -> None:
        """Let a job that lost its connection wait before all others, with its time counted anew."""
        job.queued_at = now
        self.waiting.appendleft(job)

    def next(self) -> Job | None:
        """Take the next job that somebody still waits for."""
        while self.waiting:
            job = self.waiting.popleft()
            if job.done is not None:
                return job
        return None

    def take_expired(self, before: float) -> list[Job]:
        """Take the jobs that have waited since before a time."""
        expired = [job for job in self.waiting if job.queued_at <= before or job.done is None]
        if expired:
            gone = set(expired)
            self.waiting = deque([job for job in self.waiting if job not in gone])
        return [job for job in expired if job.done is not None]

    def take_all(self) -> list[Job]:
        """Take every job."""
        jobs = list(self.waiting)
        self.waiting.clear()
        return jobs


def read_result(reader: ReplyReader, statement: Statement, host: str) -> ResultSet:
    """Return the rows of a complete reply without an error. Raises DataError where mysql_table(5) fails the lookup."""
    if reader.result_sets > 1:
        raise DataError(
            f"{host}: table {statement.table}: the query returns more than one result set",
            host=host,
        )
    if reader.columns is None:
        if statement.require_result_set:
            raise DataError(
                f"{host}: table {statement.table}: the query returned no result set (require_result_set = yes)",
                host=host,
            )
        return EMPTY
    return _new(ResultSet, (reader.columns, tuple(reader.rows)))
