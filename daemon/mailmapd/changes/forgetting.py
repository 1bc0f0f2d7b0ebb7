"""Forgetting: what changes have touched is dropped from the tables of one database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mailmapd.changes.layout import KeyLayout, layout_of
from mailmapd.changes.touched import SomeParts, Touched
from mailmapd.engine.engine import SLICE, Engine
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.table import Table
from mailmapd.tasks import end_tasks

log = logging.getLogger(__name__)

MOST_SWEPT = 5000
"""Parts of keys that are looked for in one table; with more, all of it is forgotten."""

MOST_NAMES = 100
"""Names of parts that are looked for in each key of one table; queries have a handful, in a few choices."""

_PAUSE = 0.001  # seconds between looks whether keys have been looked for


class _Sweep(NamedTuple):
    """Parts of keys that are to be looked for in a table, and when the first of them was named."""

    number: int
    wanted: set[SomeParts]


class Forgetting:
    """Forgets in some tables of an engine. Keys are dropped at once; what has parts of keys is looked for in slices.

    `sweeps_asked` counts how often parts were named, `has_swept` says until which of these times all were looked for.
    While changes go on without a pause some are being looked for at any moment: nobody may wait for the last of them.
    """

    def __init__(self, engine: Engine, tables: Mapping[str, Table]) -> None:
        self.sweeps_asked = 0
        self._swept = 0
        self._engine = engine
        self._tables = tables
        self._layouts: dict[str, KeyLayout] = {
            name: layout_of(table.definition) for name, table in tables.items()
        }
        self._sweeps: dict[str, _Sweep] = {}
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def sweeps(self) -> bool:
        """Return whether keys are being looked for."""
        return self._sweeper is not None and not self._sweeper.done()

    def has_swept(self, asked: int) -> bool:
        """Return whether all keys have been looked for whose parts were named until `sweeps_asked` was `asked`."""
        return self._swept >= asked or not self.sweeps

    async def catch_up(self) -> None:
        """Wait until all keys have been looked for whose parts were named until now."""
        asked = self.sweeps_asked
        while not self.has_swept(asked):  # noqa: ASYNC110  # seldom: nobody sets an event for it
            await asyncio.sleep(_PAUSE)

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
            self._name(table, parts)
        if self._sweeps and not self.sweeps:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    def _name(self, table: str, parts: set[SomeParts]) -> None:
        """Have keys of a table looked for that have some parts, with those that wait for it already."""
        self.sweeps_asked += 1
        sweep = self._sweeps.setdefault(table, _Sweep(self.sweeps_asked, set()))
        sweep.wanted.update(parts)
        if len(sweep.wanted) > MOST_SWEPT:
            del self._sweeps[table]
            self._engine.apply(Invalidation(table))

    async def _sweep(self) -> None:
        """Forget the keys that have some parts. A defect of ours in that forgets all of the table.

        The table that has waited for longest is next: one that changes all the time keeps no other one waiting.
        """
        while self._sweeps:
            name = next(iter(self._sweeps))
            number, wanted = self._sweeps.pop(name)
            self._swept = number - 1
            try:
                await self._sweep_table(name, wanted)
            except Exception:
                log.exception("changes: a defect of mailmapd; all of table %s is forgotten", name)
                self._engine.apply(Invalidation(name))
        self._swept = self.sweeps_asked

    async def _sweep_table(self, name: str, wanted: Iterable[SomeParts]) -> None:
        """Look at all keys of a table, in slices, for many parts at a time.

        Parts that are named in too many different ways, as no change of a row does, mean all of the table.
        """
        table, layout = self._tables[name], self._layouts[name]
        found = _Wanted()
        for number, parts in enumerate(wanted):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            found.add(parts)
            if found.names > MOST_NAMES:
                self._engine.apply(Invalidation(name))
                return
        # What is on its way could be one of them, too, and so could what is kept elsewhere.
        table.cut_flights()
        self._engine.apply(Invalidation(name, frozenset(), unseen=True, reverse=True))
        keys = table.keys()
        step = SLICE // found.names
        for start in range(0, len(keys), step):
            fitting = [key for key in keys[start : start + step] if found.fits(layout, key)]
            if fitting:
                self._engine.apply(Invalidation(name, frozenset(fitting), reverse=True))
            await asyncio.sleep(0)


class _Wanted:
    """Parts of keys that are looked for: which names, and for each choice of names which values.

    `names` are those of all choices, one more for each: what a look at a key costs.
    """

    def __init__(self) -> None:
        self.names = 1
        self._values: dict[tuple[str, ...], set[tuple[bytes, ...]]] = {}

    def add(self, parts: SomeParts) -> None:
        """Look for these, too."""
        names = tuple([name for name, _ in parts])
        if names not in self._values:
            self.names += 1 + len(names)
            self._values[names] = set()
        self._values[names].add(tuple([value for _, value in parts]))

    def fits(self, layout: KeyLayout, sql_key: bytes) -> bool:
        """Return whether a key has any of them."""
        parts = layout.parts(sql_key)
        return any(
            tuple([parts.get(name, b"") for name in names]) in values
            for names, values in self._values.items()
        )
