"""Upkeep: memory that nobody needs any more goes back, a little at a time.

Entries that not even an unreachable database makes answers are looked for now and then, in slices, and remembered
replies age.
What a reload leaves behind is collected, and what has been freed is returned to the system.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

from mailmapd.app.garbage import free_what_was_left
from mailmapd.app.heap import trim_heap
from mailmapd.engine.engine import SLICE, Engine

INTERVAL = 300.0  # seconds between two looks for useless entries
PAUSE = 0.01  # seconds for lookups between two slices of what is freed
FREED_AFTER = 3.0  # seconds after which dropped entries have been freed
LARGE = 200_000  # entries; to look for garbage among more takes longer than a lookup may wait …
TIDY_EVERY = 16  # … so it is done after this number of reloads


class Upkeep:
    """Keeps the memory of the engine in use. Everything ends when `ending` is set; `age` lets replies age."""

    def __init__(
        self,
        engine: Callable[[], Engine],
        ending: asyncio.Event,
        clock: Callable[[], float],
        age: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._age = age
        self._ending = ending
        self._clock = clock
        self._reloads = 0

    async def sweep(self) -> None:
        """Drop useless entries again and again, until the end."""
        while not await self._ends_within(INTERVAL):
            self._age()
            if await self.sweep_once() > SLICE:
                await self.give_back()

    async def sweep_once(self) -> int:
        """Drop useless entries; return how many."""
        dropped = 0
        for table in list(self._engine().tables.values()):
            for count in table.cache.sweep(self._clock, SLICE):
                dropped += count
                await asyncio.sleep(PAUSE)
        return dropped

    async def give_back(self) -> None:
        """Return memory to the system when what was dropped has been freed."""
        if not await self._ends_within(FREED_AFTER):
            await asyncio.to_thread(trim_heap)

    async def make_room(self, steps: Iterator[None]) -> None:
        """Free what is too much for `Memory.come_down`, step by step."""
        freed = False
        for _ in steps:
            freed = True
            if await self._ends_within(PAUSE):
                return
        if freed:
            await self.give_back()

    async def after_reload(self) -> None:
        """Free what a former configuration has left behind."""
        self._reloads += 1
        tables = self._engine().tables.values()
        held = sum(len(table.cache.rows) + len(table.cache.absences) for table in tables)
        if self._reloads >= (TIDY_EVERY if held > LARGE else 1):
            self._reloads = 0
            free_what_was_left()
        await self.give_back()

    async def _ends_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)
        return self._ending.is_set()
