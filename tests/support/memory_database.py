"""The memory database: rows from a mapping or a function, no server.

Tests use it where rows matter and a server does not. What servers do is tested with real ones.

It speaks no SQL. A statement is looked up by its values, in the order in which the template uses them::

    MemoryDatabase("mail", {(b"user@example.com",): [(b"example.com/user/",)]})

or answered by a function of the whole statement. It keeps what it was asked, can be told to fail,
and can be held so that statements wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from mailmapd.databases.by_task import Submitter
from mailmapd.databases.interface import DatabaseObserver, HostStatus, SilentObserver, outcome_of
from mailmapd.errors import DatabaseError, DatabaseUnavailable
from mailmapd.model import ResultSet, Row
from mailmapd.template.statement import Statement, Value

Values = tuple[bytes, ...]
Rows = Sequence[Row]
Answerer = Callable[[Statement, Values], Rows]

_HOST = "memory"


def values_of(statement: Statement) -> Values:
    """Return the values of a statement, in the order in which the template uses them."""
    return tuple([piece.raw for piece in statement.pieces if isinstance(piece, Value)])


class MemoryDatabase:
    """A database whose rows are given by a mapping from values to rows, or by a function of (statement, values).

    `asked` lists the statements run so far. While `failure` is set, every statement raises it; the
    function may raise a `DatabaseError` of its own.
    """

    def __init__(
        self,
        name: str,
        rows: Mapping[Values, Rows] | Answerer,
        *,
        columns: Sequence[str] = (),
        observer: DatabaseObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.asked: list[Statement] = []
        self.failure: DatabaseError | None = None
        self.submit = Submitter(self.fetch).submit
        self._answer: Answerer = rows if callable(rows) else lambda _, values: rows.get(values, ())
        self._columns = tuple(columns)
        self._observer = observer or SilentObserver()
        self._clock = clock
        self._running = 0
        self._closed = False
        self._free = asyncio.Event()
        self._free.set()

    def hold(self) -> None:
        """Let every statement asked from now on wait until `release`."""
        self._free.clear()

    def release(self) -> None:
        """Let waiting statements go on."""
        self._free.set()

    async def fetch(self, statement: Statement) -> ResultSet:
        """Return the rows for the statement's values."""
        self.asked.append(statement)
        started = self._clock()
        self._running += 1
        outcome = "ok"
        try:
            await self._free.wait()
            if self._closed:
                raise DatabaseUnavailable(f"database {self.name} is closed", host=_HOST)
            if self.failure is not None:
                raise self.failure
            rows = tuple(self._answer(statement, values_of(statement)))
        except DatabaseError as error:
            outcome = outcome_of(error)
            raise
        finally:
            self._running -= 1
            self._observer.query_finished(self.name, _HOST, outcome, self._clock() - started)
        return ResultSet(self._names(rows), rows)

    async def stream(
        self, statement: Statement, batch: int = 1000
    ) -> AsyncGenerator[tuple[tuple[str, ...], Sequence[Row]], None]:
        """Yield the rows for the statement's values, `batch` at a time."""
        result = await self.fetch(statement)
        for start in range(0, max(len(result.rows), 1), batch):
            yield result.columns, result.rows[start : start + batch]

    def describe(self, statement: Statement) -> str:
        """Return the statement with each value quoted as a Python bytes literal would be."""
        return statement.render(lambda raw: repr(raw)[2:-1].encode()).decode(
            "utf-8", "backslashreplace"
        )

    def status(self) -> list[HostStatus]:
        """Return one host, up unless told to fail."""
        failure = self.failure
        up = not self._closed and not isinstance(failure, DatabaseUnavailable)
        return [
            HostStatus(host=_HOST, up=up, idle=0, busy=self._running, last_error=str(failure or ""))
        ]

    async def close(self) -> None:
        """Fail what waits and everything asked later."""
        self._closed = True
        self._free.set()

    def _names(self, rows: Rows) -> tuple[str, ...]:
        if self._columns or not rows:
            return self._columns
        return tuple([f"column{number}" for number in range(1, len(rows[0]) + 1)])
