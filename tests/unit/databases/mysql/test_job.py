from __future__ import annotations

import pytest

from mailmapd.databases.mysql.job import Job, JobQueue, read_result
from mailmapd.databases.mysql.wire import ReplyReader
from mailmapd.errors import DataError
from mailmapd.model import EMPTY
from mailmapd.template.statement import Statement, Value


def make(now: float = 0.0, text: bytes = b"SELECT 1") -> Job:
    return Job(Statement("mailbox", (text,)), lambda _: None, now)


def test_order() -> None:
    """Jobs leave in the order of arrival; one that lost its connection comes before all."""
    queue = JobQueue(10)
    jobs = [make(), make(), make()]
    for job in jobs:
        queue.append(job)
    first = queue.next()
    assert first is jobs[0]
    queue.put_back(first, 5.0)
    assert first.queued_at == 5.0
    assert [queue.next() for _ in range(4)] == [*jobs, None]


def test_given_up() -> None:
    """A job whose caller has given up is passed over."""
    queue = JobQueue(10)
    gone, waiting = make(), make()
    queue.append(gone)
    queue.append(waiting)
    gone.give_up()
    assert queue.next() is waiting


def test_limit() -> None:
    """The queue tells when it is full."""
    queue = JobQueue(1)
    assert not queue.is_full
    queue.append(make())
    assert queue.is_full


def test_expiry() -> None:
    """Only jobs that have waited long enough expire, wherever they stand."""
    queue = JobQueue(10)
    old, new = make(0.0), make(2.0)
    queue.append(old)
    queue.append(new)
    late = make(0.0)
    queue.put_back(late, 3.0)
    assert queue.take_expired(1.0) == [old]
    assert queue.take_expired(1.0) == []
    assert queue.take_all() == [late, new]
    assert len(queue) == 0


def test_call() -> None:
    """A stored procedure is told from a query."""
    assert make(text=b"  call p('").is_call
    assert not make(text=b"SELECT 'CALL'").is_call
    assert not Job(Statement("t", (Value(b"CALL"),)), lambda _: None, 0.0).is_call


def test_results() -> None:
    """No result set is an error if one is required, else no row; two are an error."""
    reader = ReplyReader()
    statement = Statement("mailbox", (b"CALL p()",))
    with pytest.raises(DataError, match="db1: table mailbox: the query returned no result set"):
        read_result(reader, statement, "db1")
    assert (
        read_result(reader, Statement("mailbox", (b"CALL p()",), require_result_set=False), "db1")
        == EMPTY
    )
    reader.columns, reader.result_sets = ("a",), 2
    with pytest.raises(DataError, match="more than one"):
        read_result(reader, statement, "db1")
    reader.result_sets = 1
    reader.rows = [(b"1",)]
    assert read_result(reader, statement, "db1").rows == ((b"1",),)
