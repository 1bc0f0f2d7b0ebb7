"""Reverse queries, asked for changed rows: which keys does a row matter to.

Nothing else passes the fence while they are asked, and what they would find is not forgotten yet. So they have a
moment, all together, and what is left of them then drops all of its table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from mailmapd.changes.readers import Reader
from mailmapd.changes.selection import Asking, add_parts
from mailmapd.changes.touched import Touched
from mailmapd.databases.mysql.binlog.session import ANSWER, NoAnswer, Session
from mailmapd.errors import DatabaseError
from mailmapd.provenance.match import normal
from mailmapd.provenance.reading import Placeholder, Reverse

MOST = 2000
"""Rows of a reverse query; with more, all of the table is forgotten."""

LONGEST = 0.5
"""Seconds that reverse queries may take of what is visible at one time."""

_SHORTEST = 0.01  # seconds that a query is worth beginning with

_INTEGERS = frozenset(("tinyint", "smallint", "mediumint", "int", "bigint"))
_TEXTS = frozenset(("char", "varchar", "tinytext", "text", "mediumtext"))


def deadline() -> float:
    """Return until when reverse queries may be asked that are due now, by the loop's time."""
    return asyncio.get_running_loop().time() + LONGEST


async def ask(session: Session, asking: Iterable[Asking], touched: Touched, until: float) -> None:
    """Add the keys that rows matter to. Whatever cannot be asked, or answered, touches all of its table.

    Raises DatabaseError when the connection ends.
    """
    for asked in asking:
        reader, reverse = asked.reader, asked.reader.reading.reverse
        if reader.table in touched.whole:
            continue
        sql = None if reverse is None else _sql(reader, reverse, dict(asked.row))
        left = until - asyncio.get_running_loop().time()
        if reverse is None or sql is None or not sql.isascii() or left < _SHORTEST:
            touched.add_table(reader.table)
            continue
        limited = session.limited(f"{sql} LIMIT {MOST + 1}", left)
        try:
            rows = await session.rows(limited, len(reverse.parts), left + ANSWER)
        except NoAnswer:
            touched.add_table(reader.table)  # or it would be asked again where the feed goes on
            raise
        except DatabaseError:
            if not session.is_open:
                raise
            touched.add_table(reader.table)
            continue
        if len(rows) > MOST:
            touched.add_table(reader.table)
            continue
        for row in rows:
            _add(reader, reverse, row, touched)


def _add(reader: Reader, reverse: Reverse, row: tuple[bytes | None, ...], touched: Touched) -> None:
    """Add the key that has these parts; one that is not known for sure stands for all."""
    parts = {}
    for name, value in zip(reverse.parts, row, strict=True):
        if value is None:
            return  # NULL equals no key
        known = normal(value)
        if known is None:
            continue
        parts[name] = known
    if parts:
        add_parts(reader, parts, touched)
    else:
        touched.add_table(reader.table)


def _sql(reader: Reader, reverse: Reverse, row: Mapping[str, bytes | None]) -> str | None:
    """Return the query with the row's values, or None when one of them cannot be written down safely."""
    pieces = []
    for piece in reverse.pieces:
        if isinstance(piece, str):
            pieces.append(piece)
            continue
        literal = _literal(reader, piece, row.get(piece.column))
        if literal is None:
            return None
        pieces.append(literal)
    return "".join(pieces)


def _literal(reader: Reader, place: Placeholder, value: bytes | None) -> str | None:
    if value is None:
        return "NULL"
    kind = reader.types.get(place.column, "")
    if kind in _INTEGERS:
        # Whether the column is unsigned is not in the log: a value that differs by that is not written down.
        return None if value[-1] & 0x80 else str(int.from_bytes(value, "little"))
    plain = all(0x20 <= byte < 0x7F and byte not in b"'\\" for byte in value)
    return f"'{value.decode('ascii')}'" if kind in _TEXTS and plain else None
