"""Iteration: every user name of a dict, straight from the database in batches.

Nothing is kept: a listing is asked rarely, must be complete, and may be long, so only one batch is
in memory at a time and the next one is fetched when the client has taken the last. The columns are
those of Dovecot's iterate_query: `user`, or `username` with an optional `domain`; of both, the one
that Dovecot's own SQL driver takes. A query with a single column may name it as it likes.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

from mailmapd.databases.interface import Database
from mailmapd.engine.dicts.definition import UserQuery
from mailmapd.errors import DataError, SchemaError
from mailmapd.model import Row

BATCH_ROWS = 1000


class Iteration:
    """The user names that one query gives; `table` is named in errors."""

    def __init__(self, table: str, query: UserQuery, database: Database) -> None:
        self.table = table
        self.query = query
        self.database = database

    async def users(self, mask: bytes, limit: int) -> AsyncGenerator[list[bytes], None]:
        """Yield batches of the names that fit the mask (``*`` and ``?``, empty: all), at most `limit` of them (0: all).

        Raises DatabaseError, possibly after some batches: the listing is then incomplete.
        """
        sql_key = self.query.sql_key({"user": mask or b"*"})
        if sql_key is None:
            return
        fits = _matcher(mask)
        left = limit
        async with aclosing(
            self.database.stream(self.query.statement(sql_key), BATCH_ROWS)
        ) as batches:
            async for columns, rows in batches:
                names = [
                    name for name in self._names(columns, rows) if fits is None or fits.match(name)
                ]
                if limit and len(names) >= left:
                    yield names[:left]
                    return
                left -= len(names)
                if names:
                    yield names

    def _names(self, columns: tuple[str, ...], rows: Sequence[Row]) -> Iterator[bytes]:
        if not rows:
            return
        user, domain = self._columns(columns)
        for row in rows:
            name = row[user]
            if name is None:
                raise DataError(f"table {self.table}: the user name of a row is NULL")
            at = None if domain is None else row[domain]
            name = name if at is None else b"%b@%b" % (name, at)
            if b"\0" in name:
                raise DataError(f"table {self.table}: the user name of a row holds a NUL byte")
            if name:
                yield name

    def _columns(self, columns: tuple[str, ...]) -> tuple[int, int | None]:
        # userdb-sql.c knows `user` in the first place only
        if "username" in columns and columns[0] != "user":
            domain = columns.index("domain") if "domain" in columns else None
            return columns.index("username"), domain
        if "user" in columns:
            return columns.index("user"), None
        if len(columns) == 1:
            return 0, None
        raise SchemaError(
            f"table {self.table}: an iterate query must return a column named user (or username)"
        )


def _matcher(mask: bytes) -> re.Pattern[bytes] | None:
    """Return a pattern as Dovecot's wildcard_match_icase understands the mask, or None when everything fits."""
    if mask in (b"", b"*"):
        return None
    pattern = fnmatch.translate(mask.decode("latin-1").replace("[", "[[]"))
    return re.compile(pattern.encode("latin-1"), re.IGNORECASE)
