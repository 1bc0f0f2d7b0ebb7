"""The first contact with each database: asked at start, and again until it has answered once.

Before that, nobody knows whether it works: a wrong password or host shows here, and not with the
first mail.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from mailmapd.databases.interface import Database
from mailmapd.errors import DatabaseError, DatabaseOverloaded, DatabaseUnavailable
from mailmapd.tasks import end_tasks
from mailmapd.template.statement import Statement

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between attempts

_QUESTION = Statement("first contact", (b"SELECT 1",))


class FirstContact:
    """Asks databases until they answer. `begin` follows a start or a reload, `end` is for good.

    `told` is called when one has answered for the first time.
    """

    def __init__(self, told: Callable[[], None]) -> None:
        self._told = told
        self._asking: dict[Database, asyncio.Task[None]] = {}
        self._reached: set[Database] = set()
        self._errors: dict[Database, str] = {}

    def begin(self, databases: Iterable[Database]) -> None:
        """Ask those that are new, and forget those that are gone."""
        wanted = set(databases)
        for gone in set(self._asking) - wanted:
            self._asking.pop(gone).cancel()
        self._reached &= wanted
        self._errors = {
            database: text for database, text in self._errors.items() if database in wanted
        }
        for database in wanted - self._reached - set(self._asking):
            asking = asyncio.get_running_loop().create_task(self._ask(database))
            self._asking[database] = asking

    def reached(self, database: Database) -> bool:
        """Return whether the database has answered since the daemon knows it."""
        return database in self._reached

    def last_error(self, database: Database) -> str:
        """Return why the last attempt failed, if one did."""
        return self._errors.get(database, "")

    async def end(self) -> None:
        """Ask no more."""
        tasks = list(self._asking.values())
        await end_tasks(tasks)

    async def _ask(self, database: Database) -> None:
        attempt = await self._answers(database)
        while not attempt:
            await asyncio.sleep(INTERVAL)
            attempt = await self._answers(database)
        self._reached.add(database)
        self._errors.pop(database, None)
        self._asking.pop(database, None)
        log.info("database %s answers", database.name)
        self._told()

    async def _answers(self, database: Database) -> bool:
        try:
            await database.fetch(_QUESTION)
        except (DatabaseUnavailable, DatabaseOverloaded) as error:
            self._errors[database] = str(error)
            return False
        except DatabaseError:
            pass  # it is there, and has an opinion
        return True
