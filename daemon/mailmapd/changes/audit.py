"""The audit: answers from memory are asked anew all the time, as a sample, and compared.

The key that was used last is taken, of a table that is chosen by how much it has answered: a sample of answers, not
of entries. When the database says something else, a change may be on its way: so the log is read up to what the
database showed, everything that it touched is forgotten, and only an entry that is still there then is outdated. Of
several hosts each has to have what the others had, because the answer of a replica that lags is outdated itself. An
outdated entry's table has the ordinary time to live until the next reload: whoever changes it does so without the log
saying it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from mailmapd.cache.table_cache import Absence, Entry, Payload
from mailmapd.engine.outcome import Failure, Known
from mailmapd.engine.table import Table
from mailmapd.errors import DatabaseError
from mailmapd.tasks import end_tasks

log = logging.getLogger(__name__)

TRIES = 5  # comparisons before an answer is called outdated
PAUSE = 1.0  # seconds between them: replicas may be behind
FOUND = "an audited answer was outdated"


class Audited(Protocol):
    """A database that is audited because it is followed."""

    @property
    def holds(self) -> bool:
        """Return whether changes are known now."""
        ...

    async def agree(self) -> None:
        """Wait until all hosts show the same, and all of that has been heard of and forgotten. Raises DatabaseError."""
        ...

    async def likely_reason(self, table: str) -> str:
        """Return why answers of a table change without the log saying so, as far as that can be seen."""
        ...

    def suspend(self, table: str, reason: str) -> None:
        """Follow a table no more."""
        ...


Sleep = Callable[[float], Awaitable[None]]


class Audit:
    """Audits the followed ones of some tables, `rate` answers a second."""

    def __init__(
        self,
        audited: Audited,
        tables: Mapping[str, Table],
        rate: float,
        clock: Callable[[], float],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._audited = audited
        self._tables = tables
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._answered: dict[tuple[str, bool], int] = {}
        self._random = random.Random()  # noqa: S311 (chooses what is looked at, hides nothing)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        if self._rate > 0:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            await end_tasks([self._task])

    async def _run(self) -> None:
        while True:
            await self._sleep(1.0 / self._rate)
            try:
                await self.look()
            except Exception:
                log.exception("audit: a defect of mailmapd ended a comparison")

    async def look(self) -> None:
        """Compare an answer that was given lately."""
        chosen = self._choose() if self._audited.holds else None
        if chosen is None:
            return
        table, absent = chosen
        key = table.cache.last_used(absent=absent)
        entry = None if key is None else table.cache.peek(key)
        # What is kept for the ordinary time only may be outdated for as long
        if key is None or entry is None or entry[1] <= self._clock() + table.cache.ordinary:
            return
        known_for = table.known_for(key, self._clock())
        result = await self._compare(table, key, entry)
        table.audits[result] += 1
        if result == "outdated":
            await self._report(table, known_for)

    def _choose(self) -> tuple[Table, bool] | None:
        """Return a followed table and whether to look at its absences, by how much they have answered lately."""
        answered: dict[tuple[str, bool], int] = {}
        for name, table in self._tables.items():
            if table.watch is not None:
                answered[name, False], answered[name, True] = table.hits, table.negative_hits
        before, self._answered = self._answered, answered
        weights = [max(0, count - before.get(kind, 0)) for kind, count in answered.items()]
        if not any(weights):
            return None
        name, absent = self._random.choices(list(answered), weights)[0]
        return self._tables[name], absent

    async def _compare(self, table: Table, key: bytes, entry: Entry) -> str:
        for _ in range(TRIES):
            known = await _asked(table, key)
            if isinstance(known, Failure):
                return "failed"
            if _without_order(known) == _without_order(entry[0]):
                return "same"
            try:
                await self._audited.agree()
            except DatabaseError:
                return "failed"
            if table.cache.peek(key) != entry or table.watch is None:
                return "same"  # a change was on its way, and has been heard of
            await self._sleep(PAUSE)
        return "outdated"

    async def _report(self, table: Table, known_for: float | None) -> None:
        """Follow the table no more, before anything else, and say so."""
        self._audited.suspend(table.name, FOUND)
        reason = f"{FOUND}: {await self._audited.likely_reason(table.name)}"
        self._audited.suspend(table.name, reason)
        age = "" if known_for is None else f", known for {known_for:.0f} s"
        log.error(
            "audit: table %s is not followed any more until the next reload: %s%s",
            table.name,
            reason,
            age,
        )


async def _asked(table: Table, key: bytes) -> Known:
    """Return what the database says of a key now."""
    later: asyncio.Future[Known] = asyncio.get_running_loop().create_future()
    table.origin.renew(key, lambda known: None if later.done() else later.set_result(known))
    return await later


def _without_order(found: Payload | Absence) -> object:
    """Return an answer without the order of its rows, which the database may choose anew each time."""
    if isinstance(found, Absence):
        return found
    return sorted(found.split(b",") if isinstance(found, bytes) else found)
