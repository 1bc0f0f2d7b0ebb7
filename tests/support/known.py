"""A table's knowledge, for tests that do not care until when."""

from __future__ import annotations

from mailmapd.cache.table_cache import Absence, Payload
from mailmapd.engine.table import Table


def known(table: Table, sql_key: bytes, now: float) -> Payload | Absence | None:
    """Return what is known of a key without asking anybody, or None; a key in its refresh age is fetched anew."""
    entry = table.entry(sql_key, now)
    return None if entry is None else entry[0]
