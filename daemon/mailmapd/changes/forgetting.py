"""Forgetting: what changes have touched is dropped from the tables of one database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from mailmapd.changes.layout import KeyLayout, layout_of
from mailmapd.changes.touched import SomeParts, Touched
from mailmapd.engine.engine import SLICE, Engine
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.table import Table
from mailmapd.tasks import end_tasks

log = logging.getLogger(__name__)

MOST_SWEPT = 5000
"""Parts of keys that are looked for in one table; with more, all of it is forgotten."""


class Forgetting:
    """Forgets in some tables of an engine. Keys are dropped at once; what has parts of keys is looked for in slices."""

    def __init__(self, engine: Engine, tables: Mapping[str, Table]) -> None:
        self._engine = engine
        self._tables = tables
        self._layouts: dict[str, KeyLayout] = {
            name: layout_of(table.definition) for name, table in tables.items()
        }
        self._sweeps: dict[str, set[SomeParts]] = {}
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def sweeps(self) -> bool:
        """Return whether keys are being looked for."""
        return self._sweeper is not None and not self._sweeper.done()

    async def close(self) -> None:
        """End."""
        if self._sweeper is not None:
            await end_tasks([self._sweeper])

    def distrust(self, before: float, tables: Iterable[str] | None = None) -> None:
        """Have everything that was stored before a moment count from there, in some tables or in all."""
        for name in self._tables if tables is None else tables:
            self._engine.apply(Invalidation(name, before=before))

    def doubt(self, before: float, tables: Iterable[str] | None = None) -> None:
        """Distrust until it is known whether anything was missed."""
        for name in self._tables if tables is None else tables:
            self._engine.apply(Invalidation(name, before=before, doubt=True))

    def forget(self, touched: Touched) -> None:
        """Forget what was touched."""
        whole: Iterable[str] = self._tables if touched.everything else touched.whole
        for table in whole:
            self._engine.apply(Invalidation(table))
        if touched.everything:
            return
        for table, keys in touched.keys.items():
            self._engine.apply(Invalidation(table, frozenset(keys)))
        for table, parts in touched.parts.items():
            wanted = self._sweeps.setdefault(table, set())
            wanted |= parts
            if len(wanted) > MOST_SWEPT:
                del self._sweeps[table]
                self._engine.apply(Invalidation(table))
        if self._sweeps and not self.sweeps:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def _sweep(self) -> None:
        """Forget the keys that have some parts. A defect of ours in that forgets all of the table."""
        while self._sweeps:
            name, wanted = self._sweeps.popitem()
            try:
                await self._sweep_table(name, wanted)
            except Exception:
                log.exception("changes: a defect of mailmapd; all of table %s is forgotten", name)
                self._engine.apply(Invalidation(name))

    async def _sweep_table(self, name: str, wanted: Iterable[SomeParts]) -> None:
        """Look at all keys of a table, in slices, for many parts at a time."""
        table, layout = self._tables[name], self._layouts[name]
        found = _Wanted(wanted)
        # What is on its way could be one of them, too, and so could what is kept elsewhere.
        table.cut_flights()
        self._engine.apply(Invalidation(name, frozenset(), unseen=True, reverse=True))
        keys = table.keys()
        for start in range(0, len(keys), SLICE):
            fitting = [key for key in keys[start : start + SLICE] if found.fits(layout, key)]
            if fitting:
                self._engine.apply(Invalidation(name, frozenset(fitting), reverse=True))
            await asyncio.sleep(0)


class _Wanted:
    """Parts of keys that are looked for: which names, and for each choice of names which values."""

    def __init__(self, wanted: Iterable[SomeParts]) -> None:
        self._values: dict[tuple[str, ...], set[tuple[bytes, ...]]] = {}
        for parts in wanted:
            names = tuple(name for name, _ in parts)
            self._values.setdefault(names, set()).add(tuple(value for _, value in parts))

    def fits(self, layout: KeyLayout, sql_key: bytes) -> bool:
        """Return whether a key has any of them."""
        parts = layout.parts(sql_key)
        return any(
            tuple([parts.get(name, b"") for name in names]) in values
            for names, values in self._values.items()
        )
