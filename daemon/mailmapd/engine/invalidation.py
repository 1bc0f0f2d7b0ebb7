"""Invalidations: what is to be forgotten, as a plain value that can be written down and sent.

Made by whoever knows: a command, a row change, a message of another host. `Engine.apply` carries it out, and that is
the only way to forget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Invalidation:
    """Says what is not to be believed any more: of one table, or of all when `table` is empty.

    `keys` are SQL keys; None means everything. With `unseen` the keys stand for more that are not in memory now: what
    is being loaded, or is kept in a file, is touched as a whole.

    `before` makes it a distrust: what was stored before this moment (of the engine's clock) has the ordinary time to
    live from there on, instead of being dropped. A `doubt` is a distrust that may be taken back later.

    `grade` says how exactly the maker knew, for the metric: ``key``, ``reverse``, ``table`` or ``distrust``.
    """

    table: str = ""
    keys: frozenset[bytes] | None = None
    unseen: bool = False
    before: float | None = None
    reverse: bool = False
    doubt: bool = False

    @property
    def grade(self) -> str:
        """Return how exactly the maker knew."""
        if self.before is not None:
            return "distrust"
        if self.keys is None:
            return "table"
        return "reverse" if self.reverse else "key"

    def encode(self) -> dict[str, Any]:
        """Return the value in terms of JSON; bytes as hexadecimal digits. A moment of this process's clock has none."""
        if self.before is not None:
            raise ValueError("a distrust is about moments of this process's own clock")
        keys = None if self.keys is None else sorted(key.hex() for key in self.keys)
        return {"table": self.table, "keys": keys, "unseen": self.unseen}

    @classmethod
    def decode(cls, value: Any) -> Invalidation:
        """Return the value from what `encode` gave. Raises ValueError for anything else."""
        try:
            table, keys, unseen = value["table"], value["keys"], value["unseen"]
            known = None if keys is None else frozenset(bytes.fromhex(key) for key in keys)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no invalidation: {error}") from None
        if not isinstance(table, str) or not isinstance(unseen, bool):
            raise ValueError("no invalidation: a value of another type")
        return cls(table, known, unseen)


class TouchedSince:
    """The keys that were touched since entries began to be loaded from elsewhere: those may not be believed."""

    def __init__(self) -> None:
        self._all = False
        self._keys: set[bytes] = set()

    def add(self, keys: frozenset[bytes] | None, *, unseen: bool) -> None:
        """Note that these keys, or everything, was touched."""
        if keys is None or unseen:
            self._all = True
            self._keys.clear()
        elif not self._all:
            self._keys |= keys

    def __contains__(self, sql_key: bytes) -> bool:
        return self._all or sql_key in self._keys
