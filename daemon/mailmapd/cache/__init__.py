"""The cache of one table: answers with three ages, in two budgets."""

from __future__ import annotations

from mailmapd.cache.table_cache import NO_ROW, NoRow, TableCache

__all__ = ["NO_ROW", "NoRow", "TableCache"]
