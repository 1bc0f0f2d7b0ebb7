"""The cache of one table: answers with three ages, in two budgets."""

from __future__ import annotations

from mailmapd.cache.table_cache import ABSENCE, Absence, TableCache

__all__ = ["ABSENCE", "Absence", "TableCache"]
