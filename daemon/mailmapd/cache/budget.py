"""A budget: a least-recently-used store of a bounded number of entries that counts what it had to drop.

It is a cachetools Cache that keeps values and their order in one dictionary. cachetools' own
LRUCache keeps two, which costs 42 bytes an entry, and a table may hold millions. Its bytes count
against a share of the process' memory for such entries, see `memory`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from cachetools import Cache

from mailmapd.cache.memory import Share

AROUND = 150
"""Bytes that an entry takes beside its key and value: its places in the dictionary and in the order of use."""

_AROUND_BYTES = AROUND + 2 * b"".__sizeof__()


def cost(key: bytes, value: Any) -> int:
    """Return how many bytes an entry takes."""
    if value.__class__ is bytes:  # as nearly all are
        return _AROUND_BYTES + len(key) + len(value)
    size = AROUND + key.__sizeof__() + value.__sizeof__()
    if value.__class__ is tuple:
        payload, until = value
        size += payload.__sizeof__() + until.__sizeof__()
        if payload.__class__ is tuple:
            size += sum([part.__sizeof__() for part in payload])
    return int(size)


class Budget(Cache[bytes, Any]):
    """At most `maxsize` entries, and as many bytes as `share` has; `evictions` counts those dropped to make room."""

    def __init__(self, maxsize: int, share: Share | None = None) -> None:
        super().__init__(maxsize)
        self.evictions = 0
        self.bytes = 0
        self._most = maxsize  # a property of cachetools' class costs a call
        self.entries: OrderedDict[bytes, Any] = OrderedDict()
        self._share = share or Share()
        self._share.budgets[id(self)] = self

    def __getitem__(self, key: bytes) -> Any:
        value = self.entries[key]
        self.entries.move_to_end(key)
        return value

    def __setitem__(self, key: bytes, value: Any) -> None:
        entries = self.entries
        size = cost(key, value)
        before = entries.get(key)
        if before is not None:
            size -= cost(key, before)
            entries.move_to_end(key)
        elif len(entries) >= self._most:
            self.popitem()
        entries[key] = value
        self.bytes += size
        share = self._share
        share.used += size
        if share.used > share.limit:
            share.make_room()

    def __delitem__(self, key: bytes) -> None:
        self._forget(key, self.entries.pop(key))

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

    def get(self, key: bytes, default: Any = None) -> Any:
        """Return an entry, or `default`, and count that as a use."""
        value = self.entries.get(key)
        if value is None:
            return default
        self.entries.move_to_end(key)
        return value

    def drop(self, key: bytes) -> bool:
        """Drop an entry, without counting it; return whether there was one."""
        value = self.entries.pop(key, None)
        if value is None:
            return False
        self._forget(key, value)
        return True

    def peek(self, key: bytes) -> Any:
        """Return an entry, or None, without counting that as a use."""
        return self.entries.get(key)

    def renew(self, key: bytes, value: Any) -> None:
        """Put a value of the same size in the place of one that is there, without counting a use."""
        self.entries[key] = value

    def keys_now(self) -> list[bytes]:
        """Return every key, in no particular order, which takes a tenth of the time of the order of use."""
        return list(dict.__iter__(self.entries))

    def popitem(self) -> tuple[bytes, Any]:
        """Drop the least recently used entry to make room, and count it."""
        self.evictions += 1
        key, value = self.entries.popitem(last=False)
        self._forget(key, value)
        return key, value

    def clear(self) -> None:
        """Drop everything, without counting it."""
        self.leave()
        self.entries.clear()

    @property
    def full(self) -> bool:
        """Return whether an entry more would have another one dropped."""
        return len(self.entries) >= self.maxsize or self._share.used >= self._share.limit

    def spare_bytes(self) -> int:
        """Return how many bytes of the share nobody has, or a quarter of it, whichever is more."""
        share = self._share
        return max(share.limit - share.used, share.limit // 4)

    def leave(self) -> None:
        """Count no more as a part of the share: nobody needs the entries, and they are freed one after the other."""
        self._share.used -= self.bytes
        self._share.budgets.pop(id(self), None)
        self._share = Share()
        self.bytes = 0

    def _forget(self, key: bytes, value: Any) -> None:
        size = cost(key, value)
        self.bytes -= size
        self._share.used -= size

    def release(self, count: int) -> None:
        """Drop up to `count` entries that nobody needs any more, without counting them."""
        for _ in range(min(count, len(self.entries))):
            self.entries.popitem()
