"""Look: what memory holds of one key of one table, without using it, fetching it or showing it.

nothing   never asked, forgotten, or too old for anything
fresh     answered from memory
refresh   answered from memory, and fetched anew in the background
stale     answered only while the database cannot
"""

from __future__ import annotations

from dataclasses import dataclass

from mailmapd.cache.table_cache import ABSENCE
from mailmapd.engine.engine import Engine
from mailmapd.engine.flush import UnknownName


@dataclass(frozen=True, slots=True)
class LookRequest:
    """Names the entry to look at."""

    table: str
    sql_key: bytes


@dataclass(frozen=True, slots=True)
class Held:
    """An entry as it is held: its age, whether it is a row, and the seconds for which it is fresh (negative: past).

    `known_for` is how many seconds ago the database said so, if that can be told. `followed` says that a change of what
    it was made of is heard of, `reason` why not.
    """

    age: str
    row: bool = False
    fresh_for: float = 0.0
    known_for: float | None = None
    followed: bool = False
    reason: str = ""


def look(engine: Engine, request: LookRequest, now: float) -> Held:
    """Return what memory holds of the entry. Raises UnknownName."""
    table = engine.tables.get(request.table)
    if table is None:
        raise UnknownName(
            f'there is no table "{request.table}"; the tables are: {", ".join(engine.tables)}'
        )
    entry = table.cache.peek(request.sql_key)
    if entry is None or table.cache.useless(entry, now):
        return Held("nothing")
    row, fresh_for, known_for = (
        entry[0] is not ABSENCE,
        entry[1] - now,
        table.known_for(request.sql_key, now),
    )
    if fresh_for > 0:
        return Held("fresh", row, fresh_for, known_for)
    answered = row and fresh_for > -table.cache.settings.ttl * table.cache.settings.refresh_ahead
    return Held("refresh" if answered else "stale", row, fresh_for, known_for)
