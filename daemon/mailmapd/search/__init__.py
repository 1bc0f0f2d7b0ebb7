"""Search: which keys Postfix asks a table of fixed strings for, in which order, and what it makes of the result."""

from __future__ import annotations

from mailmapd.search.propagation import propagate
from mailmapd.search.search_key import SearchKey
from mailmapd.search.strategy import PRESETS, STRATEGY_NAMES, Search

__all__ = ["PRESETS", "STRATEGY_NAMES", "Search", "SearchKey", "propagate"]
