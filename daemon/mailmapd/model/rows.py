"""Rows: what a database returns, as the text protocol sends it.

Every value is the raw bytes of the database's text form, or None for NULL; numbers are not converted.
"""

from __future__ import annotations

from typing import NamedTuple

Row = tuple[bytes | None, ...]


class ResultSet(NamedTuple):
    """The column names, in order, and all rows of one query."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


EMPTY = ResultSet((), ())
