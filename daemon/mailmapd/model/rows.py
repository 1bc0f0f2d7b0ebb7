"""Rows: what a database returns, as the text protocol sends it.

Every value is the raw bytes of the database's text form, or None for NULL; numbers are not converted.
"""

from __future__ import annotations

from dataclasses import dataclass

Row = tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True)
class ResultSet:
    """The column names, in order, and all rows of one query."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


EMPTY = ResultSet((), ())
