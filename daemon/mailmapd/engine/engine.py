"""The engine: everything that answers, built from one configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from mailmapd.cache.budget import Budget
from mailmapd.databases.interface import Database
from mailmapd.engine.dicts.dict import Dict
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.maps.map import Map
from mailmapd.engine.table import Table

SLICE = 1000  # entries freed, or keys looked at, before lookups get their turn: about a millisecond

Watcher = Callable[[Invalidation], None]
"""Told every invalidation when it has been applied."""


@dataclass(frozen=True)
class Engine:
    """Databases, tables, maps and dicts by their configured names.

    `watchers` are told what was forgotten: those who remember answers, or keep them in a file.
    """

    databases: Mapping[str, Database]
    tables: Mapping[str, Table]
    maps: Mapping[str, Map]
    dicts: Mapping[str, Dict]
    watchers: list[Watcher] = field(default_factory=list)

    def apply(self, invalidation: Invalidation) -> int:
        """Forget what an invalidation says, at a cost of what it touches; return how many entries were dropped.

        A table that is not there is passed over: the invalidation may have been made for another configuration.
        """
        tables: Iterable[Table] = self.tables.values()
        if invalidation.table:
            named = self.tables.get(invalidation.table)
            tables = () if named is None else (named,)
        dropped = 0
        for table in tables:
            known, old = table.apply(invalidation)
            dropped += known
            free_slowly(old)
        for watcher in self.watchers:
            watcher(invalidation)
        return dropped

    async def close(self) -> None:
        """Close every database."""
        for database in self.databases.values():
            await database.close()


def free_slowly(old: Iterable[Budget]) -> None:
    """Free entries that nobody needs any more in slices, between which lookups are answered."""
    waiting = [budget for budget in old if len(budget)]

    def free() -> None:
        if len(waiting[-1]) <= SLICE:
            waiting.pop().clear()
        else:
            waiting[-1].release(SLICE)
        if waiting:
            loop.call_later(0, free)

    if waiting:
        loop = asyncio.get_running_loop()
        loop.call_soon(free)
