"""The memory of everything remembered, in bytes: rows, absences and replies, over all tables and listeners.

Each kind has a share of `max_bytes` that the others cannot take: a flood of unknown recipients fills
the share of absences and evicts no row. When a share is full, the fullest of its budgets makes room,
so that a flood in one table evicts that table's own entries first. What an entry costs is counted
with what Python needs around it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sized
from typing import Final, Protocol
from weakref import WeakValueDictionary

POSITIVE: Final = "positive"
NEGATIVE: Final = "negative"
REPLIES: Final = "replies"

SHARES: Final = {POSITIVE: 0.6, NEGATIVE: 0.2, REPLIES: 0.2}
"""The part of all bytes that each kind may have."""

_BATCH = 256 * 1024  # bytes freed beyond what is needed, so that room is not made for each entry
UNLIMITED: Final = sys.maxsize


class Holder(Sized, Protocol):
    """A budget, as its share sees it."""

    bytes: int

    def popitem(self) -> object:
        """Drop the least recently used entry."""
        ...


class Share:
    """The bytes of one kind: how many there are, and how many there may be."""

    __slots__ = ("budgets", "holders", "limit", "used")

    def __init__(self, limit: int = UNLIMITED) -> None:
        self.limit = limit
        self.used = 0
        self.holders = 0  # of replies: how many caches divide the share
        self.budgets: WeakValueDictionary[int, Holder] = WeakValueDictionary()

    def make_room(self) -> None:
        """Drop the least recently used entries of the fullest budgets until there is room again."""
        enough = self.limit - min(_BATCH, self.limit // 8)
        while self.used > enough:
            fullest = max(self.budgets.values(), key=lambda budget: budget.bytes)
            if not len(fullest):
                return
            below = fullest.bytes - max(self.used - enough, 1)
            while fullest.bytes > below and len(fullest):
                fullest.popitem()


class Memory:
    """The shares of one process. `max_bytes` may change; what is too much then goes with the next entry, all at once.

    A million of them take a second: whoever has lookups to answer comes down in steps.
    """

    def __init__(self, max_bytes: int = UNLIMITED) -> None:
        self.shares = {kind: Share() for kind in SHARES}
        self.max_bytes = max_bytes

    @property
    def max_bytes(self) -> int:
        """Return how many bytes may be remembered."""
        return self._max_bytes

    @max_bytes.setter
    def max_bytes(self, value: int) -> None:
        self._max_bytes = value
        for kind, part in SHARES.items():
            self.shares[kind].limit = int(value * part)

    def come_down(self, max_bytes: int) -> Iterator[None]:
        """Allow fewer bytes from now on; what is too much goes step by step, while the result is iterated over."""
        self._max_bytes = max_bytes
        return self._steps_down(max_bytes)

    def _steps_down(self, max_bytes: int) -> Iterator[None]:
        for kind, share in self.shares.items():
            limit = int(max_bytes * SHARES[kind])
            while len(share.budgets) and share.used > limit + _BATCH:
                if self._max_bytes != max_bytes:
                    return  # something else is allowed since
                before = share.used
                share.limit = before - _BATCH
                share.make_room()
                if share.used == before:
                    break  # nothing is left that could go
                yield
        if self._max_bytes == max_bytes:
            self.max_bytes = max_bytes

    @property
    def used(self) -> dict[str, int]:
        """Return how many bytes there are of each kind."""
        return {kind: share.used for kind, share in self.shares.items()}
