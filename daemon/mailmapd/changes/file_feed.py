"""A feed of a SQLite file: it is asked ten times a second whether anybody has committed anything.

`PRAGMA data_version` says so, without what: all tables that read the file are forgotten then. A commit is visible as
soon as the number differs, so no fence is needed. A file that is replaced by another one is the same as a commit, and
once more when those who read the file have noticed, too.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from mailmapd.changes.layout import layout_of
from mailmapd.changes.readers import Readers
from mailmapd.changes.touched import Touched
from mailmapd.databases.sqlite.database import CHECK_INTERVAL
from mailmapd.engine.definition import Definition
from mailmapd.errors import DEFECT, DatabaseUnavailable
from mailmapd.provenance.analysis import check_steady
from mailmapd.provenance.reading import CannotTell
from mailmapd.tasks import end_tasks

log = logging.getLogger(__name__)

PERIOD = 0.1  # seconds between two looks
_PATIENCE = 2.0  # seconds for which one look may take
_RETRY = 1.0  # seconds until a file is tried again

_State = tuple[int, int, int]
"""The file's device and number, and its data version."""


class FileFeed:
    """Follows one file for the tables of one database; see `Feed` for what its attributes mean."""

    identity: tuple[str, ...] = ()

    def __init__(
        self,
        path: str,
        definitions: Mapping[str, Definition],
        *,
        forget: Callable[[Touched], None],
        distrust: Callable[[float], None],
        changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.host = path
        self.alive = False
        self.reason = "not started yet"
        self.readers = _steady(definitions)
        self.counts: Counter[str] = Counter()
        self.last_heard = 0.0
        self.last_change: float | None = None
        self._forget = forget
        self._distrust = distrust
        self._changed = changed
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        # Held by the thread that uses the connection: a look that is given up goes on in its thread, and closing the
        # connection under it would crash the process.
        self._in_use = threading.RLock()
        self._ended = False
        self._state: _State | None = None
        # When every reader has opened the file that is there now
        self._noticed_at = float("inf")
        self._looking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow, and go on until `close`."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            await end_tasks([self._task])
        closing = asyncio.ensure_future(asyncio.to_thread(self._end))
        # A file system that hangs keeps nobody waiting
        await asyncio.wait({closing}, timeout=_PATIENCE)

    async def catch_up(self) -> None:
        """Look now. Raises DatabaseUnavailable."""
        try:
            await self._look()
        except (OSError, sqlite3.Error) as error:
            raise DatabaseUnavailable(f"{self.host}: {error}") from error

    async def unheard(self, table: str) -> str:  # noqa: ARG002 (any commit is heard of)
        """Return nothing: there is no catalog that could have changed."""
        return ""

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
                await asyncio.sleep(PERIOD)
            except (OSError, sqlite3.Error) as error:
                self._lose(f"{self.host}: {error}")
                await asyncio.sleep(_RETRY)
            except Exception:
                log.exception("changes of %s: a defect of mailmapd ended a look", self.host)
                self._lose(DEFECT)
                await asyncio.sleep(_RETRY)

    async def _look(self) -> None:
        """Forget everything when the file is another one, or another version, than at the last look."""
        async with self._looking:
            asked_at = self._clock()
            reading = asyncio.ensure_future(asyncio.to_thread(self._read))
            reading.add_done_callback(_take_note)
            done, _ = await asyncio.wait({reading}, timeout=_PATIENCE)
            if not done:
                self._lose(f"{self.host}: it takes more than {_PATIENCE:g} s to read")
            state = await reading
            before, self._state = self._state, state
            # What was committed after the answer is found at the next look, a tenth of a second later
            self.last_heard = asked_at
            replaced = before is None or before[:2] != state[:2]
            if replaced:
                self._noticed_at = asked_at + CHECK_INTERVAL + PERIOD
            if self.alive and before != state:
                self.last_change = asked_at
                self.counts["row"] += 1
                self._forget_all()
            elif asked_at >= self._noticed_at:
                self._noticed_at = float("inf")
                if self.alive:
                    self._forget_all()
                else:
                    self._begin()

    def _begin(self) -> None:
        self.alive, self.reason = True, ""
        self._changed()
        log.info("changes of %s are followed: %d tables", self.host, len(self.readers.followed))

    def _forget_all(self) -> None:
        touched = Touched()
        touched.add_everything("the file has changed")
        self._forget(touched)

    def _read(self) -> _State:
        """Return the file's state now. Raises OSError, sqlite3.Error."""
        with self._in_use:
            if self._ended:
                raise sqlite3.ProgrammingError("the feed has ended")
            found = Path(self.host).stat()
            if self._state is None or self._state[:2] != (found.st_dev, found.st_ino):
                self._shut()
            if self._connection is None:
                self._connection = sqlite3.connect(
                    f"file:{quote(self.host)}?mode=ro",
                    uri=True,
                    check_same_thread=False,
                    timeout=0.5,
                )
            [(version,)] = self._connection.execute("PRAGMA data_version").fetchall()
        return found.st_dev, found.st_ino, int(version)

    def _end(self) -> None:
        with self._in_use:
            self._ended = True
            self._shut()

    def _shut(self) -> None:
        with self._in_use:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()

    def _lose(self, reason: str) -> None:
        """Say that nothing is proven any more from the last look on."""
        was_alive, self.alive = self.alive, False
        if was_alive or reason != self.reason:
            log.warning("changes of %s are not followed: %s", self.host, reason)
        self.reason = reason
        self._state = None
        self._changed()
        if was_alive:
            self._distrust(self.last_heard)


def _take_note(reading: asyncio.Future[_State]) -> None:
    """Hear how a look ended that nobody waits for any more."""
    if not reading.cancelled():
        reading.exception()


def _steady(definitions: Mapping[str, Definition]) -> Readers:
    """Return which tables' answers depend on the file alone; the others with the reason."""
    found = Readers()
    for table, definition in definitions.items():
        try:
            check_steady(layout_of(definition).query)
        except CannotTell as error:
            found.not_followed[table] = str(error)
        else:
            found.followed.add(table)
    return found
