"""Refetching: when all of a table was forgotten, what was used last is fetched anew first, before anybody asks for it.

A transaction that changes very many rows, DDL, or a statement in the log drops whole tables, and every lookup would
have to wait for the database then. So the hottest keys are noted before they are dropped, and asked for when the change
is visible to every reader: a few at a time, so that lookups have most connections, and not again and again where each
changed row drops a whole table. A lookup of a key that is on its way shares its query.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from mailmapd.engine.table import Table
from mailmapd.tasks import end_tasks

HOTTEST = 1000  # keys of a table that are fetched anew
PAUSE = 60.0  # seconds between two times that a table's are …
AT_ONCE = 4  # … but for so many: every host that is followed drops the table once
SHARE = 4  # one query at a time for as many connections


class Refetching:
    """Fetches some tables' hottest keys anew, with a share of a database's connections."""

    def __init__(
        self, tables: Mapping[str, Table], connections: int, clock: Callable[[], float]
    ) -> None:
        self._tables = tables
        self._at_a_time = max(1, connections // SHARE)
        self._clock = clock
        self._noted: dict[str, dict[bytes, None]] = {}
        self._due: dict[str, float] = {}  # until when a table's keys were fetched anew often enough
        self._waiting: deque[tuple[Table, deque[bytes]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, names: Iterable[str]) -> None:
        """Note the hottest keys of tables that are about to be forgotten; those of the last time come behind them."""
        for name in names:
            table = self._tables[name]
            # What is not followed may be no plain SELECT
            if table.watch is not None and not self._often_enough(name):
                hottest = dict.fromkeys(table.cache.hottest(HOTTEST))
                for key in self._noted.get(name, ()):
                    if len(hottest) >= HOTTEST:
                        break
                    hottest[key] = None
                self._noted[name] = hottest

    def begin(self, names: Iterable[str]) -> None:
        """Fetch anew what was noted of tables whose change is visible now."""
        for name in names:
            noted = self._noted.pop(name, None)
            if noted:
                now = self._clock()
                self._due[name] = max(self._due.get(name, now), now) + PAUSE
                self._waiting.append((self._tables[name], deque(noted)))
        while self._waiting and len(self._tasks) < self._at_a_time:
            task = asyncio.get_running_loop().create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End."""
        self._waiting.clear()
        await end_tasks(self._tasks)

    def _often_enough(self, name: str) -> bool:
        return self._due.get(name, 0.0) > self._clock() + (AT_ONCE - 1) * PAUSE

    async def _run(self) -> None:
        """Fetch one key after the other, of each table in turn."""
        while self._waiting:
            table, keys = self._waiting.popleft()
            key = keys.popleft()
            if keys:
                self._waiting.append((table, keys))
            await _fetch(table, key)


async def _fetch(table: Table, key: bytes) -> None:
    """Have a key fetched, and wait until it was; lookups have a turn in any case."""
    landed = asyncio.Event()
    if table.fetch_ahead(key, lambda _: landed.set()):
        await landed.wait()
    else:
        await asyncio.sleep(0)
