"""Told: what a feed hears goes to whoever holds the tables of its database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from mailmapd.changes.touched import Touched
from mailmapd.databases.mysql.host import Expected


class Told(Protocol):
    """Told what a feed hears: the tables of one database."""

    def forget(self, touched: Touched) -> None:
        """Forget what was touched."""
        ...

    def visible(self, tables: Iterable[str]) -> None:
        """Hear of tables that were forgotten as a whole, when nothing is pending that drops them again."""
        ...

    def doubt(self, before: float) -> None:
        """Have everything that was stored before a moment count from there, until the feed is known to lack nothing."""
        ...

    def missed(self) -> None:
        """Hear that the feed begins anew: nobody knows what was changed before."""
        ...

    def expect(self, host: str, expected: Expected | None) -> None:
        """Have each connection of lookups to a host reach the server whose log is read, or the feed hear of it."""
        ...

    def look(self) -> None:
        """Look at what is followed now."""
        ...

    @property
    def sweeps_asked(self) -> int:
        """Return how often it was said by some of its parts which keys are to be forgotten."""
        ...

    def has_swept(self, asked: int) -> bool:
        """Return whether all these keys have been looked for since `sweeps_asked` was `asked`."""
        ...
