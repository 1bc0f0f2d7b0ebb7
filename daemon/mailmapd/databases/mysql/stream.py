"""Reads a long result row by row, no faster than its consumer: the transport is paused while enough rows wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mailmapd.databases.mysql.errors import judge
from mailmapd.databases.mysql.framing import WireError
from mailmapd.databases.mysql.portions import Portions
from mailmapd.databases.mysql.wire import ReplyReader, encode_query
from mailmapd.errors import DatabaseError, DatabaseUnavailable, DataError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from mailmapd.databases.mysql.connection import MysqlConnection
    from mailmapd.model import Row
    from mailmapd.template.statement import Statement

BATCHES_AHEAD = 2
"""Batches that may wait before the server is held up."""

BYTES_AHEAD = 4 * 1024 * 1024
"""Bytes of rows that may wait before the server is held up."""


class RowStream(asyncio.Protocol):
    """Takes a connection over and reads the reply to one statement from it; the connection is closed afterwards."""

    def __init__(
        self, connection: MysqlConnection, statement: Statement, batch: int, patience: float
    ) -> None:
        self._host = connection.host
        self._statement = statement
        self._batch = batch
        self._patience = patience
        self._reader = ReplyReader(connection.reader.encoding)
        self._complete = False
        self._paused = False
        self._unread = 0
        self._loss = ""
        self._news = asyncio.Event()
        self._connection = connection
        self._transport = connection.hand_over(self)
        self._portions = Portions(self._transport, self._take)

    async def rows(self) -> AsyncIterator[tuple[tuple[str, ...], Sequence[Row]]]:
        """Send the statement and yield its columns and rows. Raises DatabaseError."""
        self._reader.start(stream=True)
        self._transport.write(encode_query(self._statement.render(self._connection.quote)))
        waiting: list[Row] = []
        yielded = False
        complete = False
        while not complete:
            await self._wait()
            # Noted with the rows that are taken: while the consumer has a batch, more of them may come, and the end.
            complete = self._complete
            waiting += self._reader.take_rows()
            self._unread = 0
            while len(waiting) >= self._batch:
                yield self._columns(), waiting[: self._batch]
                yielded = True
                del waiting[: self._batch]
            self._resume()
        self._check()
        if waiting or not yielded:
            yield self._columns(), waiting

    def abort(self) -> None:
        """End the connection; a statement that still runs ends with it."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read a piece of the reply."""
        self._portions.receive_data(data)

    def _take(self, data: bytes) -> bool:
        """Read a part of the reply; hold the server up when the consumer is behind. Return whether more may follow.

        Only whole rows are news: a server that sends them byte by byte runs out of patience.
        """
        if self._complete or self._loss:
            return False
        try:
            self._complete = self._reader.receive_data(data)
            if self._complete and self._portions.waiting:
                raise WireError("bytes follow a complete reply")
        except WireError as error:
            self._loss = str(error)
            self.abort()
        self._unread += len(data)
        ended = self._complete or bool(self._loss)
        rows = len(self._reader.rows)
        ahead = rows >= self._batch * BATCHES_AHEAD or (rows and self._unread >= BYTES_AHEAD)
        if ahead and not ended and not self._paused:
            self._paused = True
            self._portions.hold()
        if rows or ended:
            self._news.set()
        return not ended

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the consumer, if it still waits."""
        if not self._complete:
            self._loss = (
                self._loss or getattr(exc, "strerror", None) or "the server closed the connection"
            )
        self._news.set()

    async def _wait(self) -> None:
        """Wait for data, the end or a loss."""
        try:
            async with asyncio.timeout(self._patience):
                await self._news.wait()
        except TimeoutError:
            text = f"{self._host}: table {self._statement.table}: no rows for {self._patience:g} s"
            raise DatabaseUnavailable(text, host=self._host) from None
        self._news.clear()
        if self._loss:
            raise DatabaseUnavailable(f"{self._host}: {self._loss}", host=self._host)

    def _resume(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._portions.release()

    def _columns(self) -> tuple[str, ...]:
        return self._reader.columns or ()

    def _check(self) -> None:
        """Raise what a complete reply may hold beside rows."""
        reader, place = self._reader, f"{self._host}: table {self._statement.table}"
        if reader.error is not None:
            error: DatabaseError = judge(reader.error, self._statement, self._host).error
            raise error
        if reader.result_sets > 1:
            raise DataError(f"{place}: the query returns more than one result set", host=self._host)
        if reader.columns is None and self._statement.require_result_set:
            raise DataError(
                f"{place}: the query returned no result set (require_result_set = yes)",
                host=self._host,
            )
