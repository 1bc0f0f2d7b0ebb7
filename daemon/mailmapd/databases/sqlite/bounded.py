"""Bounded results: no more of a file's rows is held in memory than of a server's, whatever stands in the file."""

from __future__ import annotations

import sqlite3
from typing import Any

MAX_RESULT = 4 * 1024 * 1024
"""The largest result that is collected, in bytes of memory; as large as one of a server."""

MAX_ROW = 16 * 1024 * 1024
"""The longest row, and value, in bytes: SQLite itself makes none that is longer."""

_PORTION = 1024 * 1024  # bytes of memory; behind them the rest of a long result is read later
_ROW_COST, _VALUE_COST = (
    120,
    40,
)  # bytes of memory that a row, and a value in it, take beside their bytes


class BoundedRows(sqlite3.Cursor):
    """Reads no more rows than may be kept."""

    def fetchall(self) -> list[sqlite3.Row]:
        """Return all rows. Raises sqlite3.DataError when they are too long together."""
        rows, room = [], MAX_RESULT
        for row in self:
            room -= _cost(row)
            if room < 0:
                raise sqlite3.DataError(f"the result is longer than {MAX_RESULT >> 20} MiB")
            rows.append(row)
        return rows

    def fetchmany(self, size: int | None = 1) -> list[sqlite3.Row]:
        """Return the next rows: as many as are asked for, or fewer long ones."""
        rows, room = [], _PORTION
        for row in self:
            rows.append(row)
            room -= _cost(row)
            if len(rows) == size or room <= 0:
                break
        return rows


class BoundedConnection(sqlite3.Connection):
    """Reads by `BoundedRows`."""

    def __init__(self, *place: Any, **options: Any) -> None:
        super().__init__(*place, **options)
        self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_ROW)

    def execute(self, sql: str, *values: Any) -> BoundedRows:
        """Run a statement."""
        return self.cursor(BoundedRows).execute(sql, *values)


def _cost(row: sqlite3.Row) -> int:
    """Return about how many bytes of memory a row takes."""
    cost = _ROW_COST
    for value in row:
        cost += _VALUE_COST + (len(value) if isinstance(value, bytes) else 0)
    return cost
