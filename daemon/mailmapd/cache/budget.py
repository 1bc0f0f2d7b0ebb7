"""A budget: a least-recently-used store of a bounded number of entries that counts what it had to drop.

It is a cachetools Cache that keeps values and their order in one dictionary. cachetools' own
LRUCache keeps two, which costs 42 bytes an entry, and a table may hold millions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from cachetools import Cache


class Budget(Cache[bytes, Any]):
    """At most `maxsize` entries; `evictions` counts those dropped to make room."""

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        self.evictions = 0
        self.entries: OrderedDict[bytes, Any] = OrderedDict()

    def __getitem__(self, key: bytes) -> Any:
        value = self.entries[key]
        self.entries.move_to_end(key)
        return value

    def __setitem__(self, key: bytes, value: Any) -> None:
        entries = self.entries
        if key in entries:
            entries.move_to_end(key)
        elif len(entries) >= self.maxsize:
            self.popitem()
        entries[key] = value

    def __delitem__(self, key: bytes) -> None:
        del self.entries[key]

    def __contains__(self, key: object) -> bool:
        return key in self.entries

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def currsize(self) -> int:
        """Return the number of entries."""
        return len(self.entries)

    def find(self, key: bytes) -> Any:
        """Return an entry, or None, and count that as a use."""
        value = self.entries.get(key)
        if value is not None:
            self.entries.move_to_end(key)
        return value

    def drop(self, key: bytes) -> bool:
        """Drop an entry, without counting it; return whether there was one."""
        return self.entries.pop(key, None) is not None

    def look(self, key: bytes) -> Any:
        """Return an entry, or None, without counting that as a use."""
        return self.entries.get(key)

    def keys_now(self) -> list[bytes]:
        """Return every key, in no particular order, which takes a tenth of the time of the order of use."""
        return list(dict.__iter__(self.entries))

    def popitem(self) -> tuple[bytes, Any]:
        """Drop the least recently used entry to make room, and count it."""
        self.evictions += 1
        return self.entries.popitem(last=False)

    def clear(self) -> None:
        """Drop everything, without counting it."""
        self.entries.clear()

    def release(self, count: int) -> None:
        """Drop up to `count` entries that nobody needs any more, without counting them."""
        for _ in range(min(count, len(self.entries))):
            self.entries.popitem()
