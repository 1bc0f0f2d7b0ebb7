"""The border to aiosqlite: one read-only connection with its thread.

Values become bytes exactly as sqlite3_column_text() gives them to a C program such as Postfix's sqlite: client.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote as percent_quote

import aiosqlite

from mailmapd.databases.sqlite.bounded import BoundedConnection
from mailmapd.databases.sqlite.errors import translate
from mailmapd.errors import DatabaseUnavailable, DataError
from mailmapd.model import EMPTY, ResultSet
from mailmapd.template.sql_quoting import sqlite_quote

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from mailmapd.model import Row
    from mailmapd.template.statement import Statement

SqliteValue = bytes | int | float | None

BUSY_TIMEOUT = 1.0
"""Seconds for which SQLite itself waits for a writer to finish."""

_TURN = 250  # rows that are made in a row; then lookups have their turn

INTERRUPT_INTERVAL = 0.02
"""Seconds between two attempts to break off a statement."""


class _Connection(aiosqlite.Connection):
    """A connection that tells when its thread has ended, also where the file could not be opened.

    Nobody else would wait for the thread then, whose last word to an event loop that is closed is a traceback.
    """

    stopped: asyncio.Future[Any] | None = None

    def stop(self) -> asyncio.Future[Any] | None:
        """End the thread."""
        self.stopped = super().stop()
        return self.stopped


class SqliteReader:
    """One connection to a file, opened by `open`."""

    def __init__(self, path: str, connection: aiosqlite.Connection) -> None:
        self._path = path
        self._connection = connection
        connection.text_factory = bytes
        connection.row_factory = sqlite3.Row

    @classmethod
    async def open(cls, path: str) -> SqliteReader:
        """Open a file for reading only. Raises DatabaseUnavailable."""
        opening = partial(
            sqlite3.connect,
            f"file:{percent_quote(path)}?mode=ro",
            uri=True,
            timeout=BUSY_TIMEOUT,
            isolation_level=None,
            cached_statements=256,
            factory=BoundedConnection,
        )
        connection = _Connection(opening, iter_chunk_size=64)
        try:
            await connection
        except sqlite3.Error as error:
            if connection.stopped is not None:
                await connection.stopped
            raise DatabaseUnavailable(str(translate(error, path, "")), host=path) from error
        return cls(path, connection)

    async def fetch(self, statement: Statement) -> ResultSet:
        """Run a statement. Raises DatabaseError."""
        sql = self._text(statement)
        try:
            rows = list(await self._connection.execute_fetchall(sql))
            if not rows:
                return EMPTY
            return ResultSet(tuple(rows[0].keys()), tuple(await self._rows(rows)))
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise translate(
                error, self._path, statement.table, statement.values_outside_strings()
            ) from error
        except asyncio.CancelledError:
            await self._break_off()
            raise

    async def _break_off(self) -> None:
        """Interrupt the statement that was given up until the connection is free again.

        It may not have begun when first interrupted.
        """
        behind_it = asyncio.ensure_future(self._connection.execute_fetchall("SELECT 1"))
        while not behind_it.done():
            await self.interrupt()
            await asyncio.wait({behind_it}, timeout=INTERRUPT_INTERVAL)
        with suppress(sqlite3.Error):  # interrupted itself, which is just as well
            behind_it.result()

    async def stream(
        self, statement: Statement, batch: int
    ) -> AsyncGenerator[tuple[tuple[str, ...], Sequence[Row]], None]:
        """Run a statement and yield its columns and rows. Raises DatabaseError."""
        sql = self._text(statement)
        try:
            async with self._connection.execute(sql) as cursor:
                columns = tuple([name for name, *_ in cursor.description or ()])
                first = True
                while (rows := list(await cursor.fetchmany(batch))) or first:
                    yield columns, await self._rows(rows)
                    first = False
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise translate(
                error, self._path, statement.table, statement.values_outside_strings()
            ) from error

    async def interrupt(self) -> None:
        """Break off what the connection is doing."""
        await self._connection.interrupt()

    async def close(self) -> None:
        """Close the connection and end its thread."""
        await self._connection.close()

    def _text(self, statement: Statement) -> str:
        try:
            return statement.render(sqlite_quote).decode()
        except UnicodeDecodeError:
            # Postfix does not ask SQLite for such keys either.
            raise DataError(
                f"{self._path}: table {statement.table}: the key is not valid UTF-8",
                host=self._path,
            ) from None

    async def _rows(self, rows: Sequence[sqlite3.Row]) -> list[Row]:
        """Return rows as a database gives them."""
        made = []
        for number, row in enumerate(rows, 1):
            made.append(await self._row(row))
            if number % _TURN == 0:
                await asyncio.sleep(0)
        return made

    async def _row(self, row: sqlite3.Row) -> Row:
        values = cast("tuple[SqliteValue, ...]", tuple(row))
        return tuple(
            [
                value if value is None or isinstance(value, bytes) else await self._number(value)
                for value in values
            ]
        )

    async def _number(self, value: float) -> bytes:
        """Return a number's text; SQLite itself writes a REAL, whose rules are its own."""
        if isinstance(value, int):
            return b"%d" % value
        rows = list(await self._connection.execute_fetchall("SELECT CAST(? AS TEXT)", (value,)))
        return cast("bytes", rows[0][0])
