"""Touched entries, as changes name them: by SQL key, by some parts of it, or all of a table of the engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailmapd.cache.table_cache import KEPT_KEY

TOUCHED_BYTES = 512 * 1024
"""Bytes that the keys and parts of one value may take; beyond that, all of their tables are meant."""

_AROUND = 100  # bytes that a key takes beside itself

SomeParts = tuple[tuple[str, bytes], ...]
"""Parts of a key that are known, by name: every key that has them is meant."""


@dataclass(slots=True)
class Touched:
    """Names what to forget, by the names of the engine's tables. A table in `whole` needs no keys."""

    keys: dict[str, set[bytes]] = field(default_factory=dict)
    parts: dict[str, set[SomeParts]] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    everything: bool = False
    reason: str = ""
    size: int = field(default=0, compare=False)

    def __bool__(self) -> bool:
        return bool(self.keys or self.parts or self.whole or self.everything)

    def add_key(self, table: str, sql_key: bytes) -> None:
        """Mean one entry; of a very long key there is none."""
        if table not in self.whole and len(sql_key) <= KEPT_KEY:
            self.keys.setdefault(table, set()).add(sql_key)
            self._grow(len(sql_key))

    def add_parts(self, table: str, parts: SomeParts) -> None:
        """Mean every entry whose key has these parts."""
        if table not in self.whole:
            self.parts.setdefault(table, set()).add(parts)
            self._grow(sum([len(value) for _, value in parts]))

    def add_table(self, table: str) -> None:
        """Mean all of a table."""
        self.whole.add(table)
        self.keys.pop(table, None)
        self.parts.pop(table, None)

    def add(self, other: Touched) -> None:
        """Mean what another one means as well."""
        for table in other.whole:
            self.add_table(table)
        for table, keys in other.keys.items():
            for key in keys:
                self.add_key(table, key)
        for table, some in other.parts.items():
            for parts in some:
                self.add_parts(table, parts)
        if other.everything:
            self.add_everything(other.reason)

    def add_whole(self) -> None:
        """Mean all of every table of which something is meant."""
        for table in {*self.keys, *self.parts}:
            self.add_table(table)
        self.size = 0

    def _grow(self, size: int) -> None:
        self.size += _AROUND + size
        if self.size > TOUCHED_BYTES:
            self.add_whole()

    def add_everything(self, reason: str) -> None:
        """Mean all of every table: nothing known before may be believed."""
        self.everything = True
        self.reason = self.reason or reason
