"""What changes may have touched: entries by SQL key, by some parts of it, or all of a table of the engine."""

from __future__ import annotations

from dataclasses import dataclass, field

SomeParts = tuple[tuple[str, bytes], ...]
"""Parts of a key that are known, by name: every key that has them is meant."""


@dataclass(slots=True)
class Touched:
    """What to forget, by the names of the engine's tables. A table in `whole` needs no keys."""

    keys: dict[str, set[bytes]] = field(default_factory=dict)
    parts: dict[str, set[SomeParts]] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    everything: bool = False
    reason: str = ""

    def __bool__(self) -> bool:
        return bool(self.keys or self.parts or self.whole or self.everything)

    def add_key(self, table: str, sql_key: bytes) -> None:
        """Mean one entry."""
        if table not in self.whole:
            self.keys.setdefault(table, set()).add(sql_key)

    def add_parts(self, table: str, parts: SomeParts) -> None:
        """Mean every entry whose key has these parts."""
        if table not in self.whole:
            self.parts.setdefault(table, set()).add(parts)

    def add_table(self, table: str) -> None:
        """Mean all of a table."""
        self.whole.add(table)
        self.keys.pop(table, None)
        self.parts.pop(table, None)

    def add_everything(self, reason: str) -> None:
        """Mean all of every table: nothing known before may be believed."""
        self.everything = True
        self.reason = self.reason or reason
