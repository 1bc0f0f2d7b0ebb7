from __future__ import annotations

import asyncio

import pytest

from mailmapd.errors import DatabaseUnavailable, DataError
from mailmapd.template.statement import Statement, Value
from support.memory_database import MemoryDatabase, values_of


def select(*values: bytes) -> Statement:
    return Statement(
        "mailbox", tuple([piece for value in values for piece in (b"'", Value(value), b"'")])
    )


async def test_mapping() -> None:
    """A mapping answers by the statement's values, and what is not in it is a definite empty result."""
    database = MemoryDatabase("mail", {(b"a", b"b"): [(b"found", None)]}, columns=("value", "note"))
    result = await database.fetch(select(b"a", b"b"))
    assert (result.columns, result.rows) == (("value", "note"), ((b"found", None),))
    assert (await database.fetch(select(b"a"))).rows == ()


async def test_function() -> None:
    """A function answers from the statement and its values."""
    database = MemoryDatabase(
        "mail", lambda statement, values: [(statement.table.encode() + b":" + values[0],)]
    )
    assert (await database.fetch(select(b"k"))).rows == ((b"mailbox:k",),)


async def test_asked() -> None:
    """Statements are kept in the order asked."""
    database = MemoryDatabase("mail", {})
    await database.fetch(select(b"1"))
    await database.fetch(select(b"2"))
    assert [values_of(statement) for statement in database.asked] == [(b"1",), (b"2",)]


async def test_failure() -> None:
    """While told to fail, every statement raises the given error, and the status follows."""
    database = MemoryDatabase("mail", {})
    database.failure = DatabaseUnavailable("gone")
    with pytest.raises(DatabaseUnavailable, match="gone"):
        await database.fetch(select(b"k"))
    assert not database.status()[0].up
    database.failure = None
    await database.fetch(select(b"k"))
    assert database.status()[0].up


async def test_hold() -> None:
    """Held statements wait until released, and other errors of the function come through."""

    def answer(_statement: Statement, _values: tuple[bytes, ...]) -> list[tuple[bytes | None, ...]]:
        raise DataError("poison")

    database = MemoryDatabase("mail", answer)
    database.hold()
    task = asyncio.create_task(database.fetch(select(b"k")))
    await asyncio.sleep(0)
    assert not task.done()
    assert database.status()[0].busy == 1
    database.release()
    with pytest.raises(DataError):
        await task


async def test_stream() -> None:
    """A stream yields batches, and one empty batch for no rows."""
    database = MemoryDatabase(
        "mail", lambda _, values: [(b"%d" % number,) for number in range(int(values[0]))]
    )
    assert [len(rows) async for _, rows in database.stream(select(b"5"), batch=2)] == [2, 2, 1]
    assert [len(rows) async for _, rows in database.stream(select(b"0"), batch=2)] == [0]


async def test_close() -> None:
    """After close, what waits and what comes fails as unavailable."""
    database = MemoryDatabase("mail", {})
    database.hold()
    task = asyncio.create_task(database.fetch(select(b"k")))
    await asyncio.sleep(0)
    await database.close()
    await database.close()
    with pytest.raises(DatabaseUnavailable):
        await task
