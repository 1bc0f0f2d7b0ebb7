"""Jobs: a statement on its way to a connection and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailmapd.errors import DataError
from mailmapd.model import EMPTY, ResultSet

if TYPE_CHECKING:
    import asyncio

    from mailmapd.databases.mysql_wire import ReplyReader
    from mailmapd.template.statement import Statement


class Job:
    """One statement and the future that waits for its rows. Times are the dispatcher's clock; `losses` counts connections lost under it."""

    __slots__ = ("future", "losses", "queued_at", "sent_at", "statement")

    def __init__(self, statement: Statement, future: asyncio.Future[ResultSet], now: float) -> None:
        self.statement = statement
        self.future = future
        self.queued_at = now
        self.sent_at = now
        self.losses = 0

    @property
    def is_call(self) -> bool:
        """Tell whether this runs a stored procedure, whose error may leave a transaction open unseen."""
        first = self.statement.pieces[0] if self.statement.pieces else b""
        return isinstance(first, bytes) and first.lstrip()[:4].upper() == b"CALL"


def read_result(reader: ReplyReader, statement: Statement, host: str) -> ResultSet:
    """Return the rows of a complete reply without an error. Raises DataError where mysql_table(5) fails the lookup."""
    if reader.result_sets > 1:
        raise DataError(f"{host}: table {statement.table}: the query returns more than one result set", host=host)
    if reader.columns is None:
        if statement.require_result_set:
            raise DataError(f"{host}: table {statement.table}: the query returned no result set (require_result_set = yes)", host=host)
        return EMPTY
    return ResultSet(reader.columns, tuple(reader.rows))
