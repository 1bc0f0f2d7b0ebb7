"""Look: what memory holds of one key of one table, without using it, fetching it or showing it.

nothing   never asked, forgotten, or too old for anything: the database is asked
fresh     answered from memory
refresh   answered from memory, and fetched anew in the background
stale     the database is asked, and this is the answer only while it cannot say

What was stored before a moment from which changes may have been missed is distrusted: it is never fresh.
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
    """An entry as it is held: its age, whether it is a row, and for how many seconds it is fresh.

    `fresh_for` is 0 or negative where it is not. `known_for` is how many seconds ago the database said so, if that can
    be told. `followed` says that a change of what it was made of is heard of, `reason` why not.
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
    row, fresh_for = entry[0] is not ABSENCE, entry[1] - now
    age, settings = "stale", table.cache.settings
    if fresh_for > 0:
        age = "fresh"
        if table.cache.is_distrusted(request.sql_key):
            age, fresh_for = "refresh", 0.0
    elif row and fresh_for > -settings.ttl * settings.refresh_ahead:
        age = "refresh"
    return Held(age, row, fresh_for, table.known_for(request.sql_key, now))
