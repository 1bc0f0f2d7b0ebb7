"""A budget: a least-recently-used store of a bounded number of entries that counts what it had to drop."""

from __future__ import annotations

from typing import Any

from cachetools import Cache, LRUCache


class Budget(LRUCache[bytes, Any]):
    """cachetools' LRUCache with a count of evictions."""

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        self.evictions = 0

    def look(self, key: bytes) -> Any:
        """Return an entry, or None, without counting that as a use."""
        return Cache.__getitem__(self, key) if key in self else None

    def popitem(self) -> tuple[bytes, Any]:
        """Drop the least recently used entry to make room, and count it."""
        self.evictions += 1
        return super().popitem()

    def release(self, count: int) -> None:
        """Drop up to `count` entries that nobody needs any more, without counting them."""
        for _ in range(min(count, len(self))):
            super().popitem()
