"""`Database.submit` for databases that have no callbacks of their own: one task for each statement."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from mailmapd.errors import DEFECT, DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from mailmapd.databases.interface import Done
    from mailmapd.model import ResultSet
    from mailmapd.template.statement import Statement

log = logging.getLogger(__name__)


class Submitter:
    """Runs statements with `fetch`, the database's coroutine, and tells what came of them."""

    def __init__(self, fetch: Callable[[Statement], Coroutine[Any, Any, ResultSet]]) -> None:
        self._fetch = fetch
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, statement: Statement, done: Done) -> None:
        """See `Database.submit`."""
        task = asyncio.get_running_loop().create_task(self._run(statement, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, statement: Statement, done: Done) -> None:
        try:
            result: ResultSet | DatabaseError = await self._fetch(statement)
        except DatabaseError as error:
            result = error
        except Exception:
            log.exception("table %s: a statement failed: a defect of mailmapd", statement.table)
            result = DatabaseError(DEFECT)
        done(result)
