"""SQLite: a file, opened for reading only, as sqlite_table(5) reads it, with deadlines and several readers.

A file that is replaced by another one (written beside it and renamed, as generators do) is noticed
within a second and opened anew.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from mailmapd.databases.by_task import Submitter
from mailmapd.databases.interface import DatabaseObserver, HostStatus, SilentObserver, outcome_of
from mailmapd.databases.sqlite.reader import SqliteReader
from mailmapd.errors import DatabaseError, DatabaseOverloaded, DatabaseUnavailable
from mailmapd.template.sql_quoting import sqlite_quote

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from mailmapd.databases.settings import SqliteSettings
    from mailmapd.model import ResultSet, Row
    from mailmapd.template.statement import Statement

log = logging.getLogger(__name__)

CHECK_INTERVAL = 1.0
"""Seconds between two looks at the file's identity."""

FileIdentity = tuple[int, int]


class SqliteDatabase:
    """A SQLite file. `clock` gives monotonic seconds."""

    def __init__(
        self,
        name: str,
        settings: SqliteSettings,
        observer: DatabaseObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._settings = settings
        self._path = settings.path
        self._observer = observer or SilentObserver()
        self._clock = clock
        self.submit = Submitter(self.fetch).submit
        self._idle: list[SqliteReader] = []
        self._readers: dict[SqliteReader, FileIdentity] = {}
        self._opening = 0
        self._busy: set[SqliteReader] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._identity: FileIdentity | None = None
        self._checked_at = float("-inf")
        self._last_error = ""
        self._up = True
        self._closed = False

    @property
    def name(self) -> str:
        """Return the configured name."""
        return self._name

    async def fetch(self, statement: Statement) -> ResultSet:
        """Run the statement and return all of its rows."""
        started = self._clock()
        outcome = "ok"
        try:
            reader = await self._acquire()
            try:
                async with asyncio.timeout(self._settings.query_timeout):
                    result = await reader.fetch(statement)
            except TimeoutError:
                outcome = "timeout"
                text = (
                    f"{self._path}: table {statement.table}: no result within query_timeout "
                    f"({self._settings.query_timeout:g} s)"
                )
                raise DatabaseUnavailable(text, host=self._path) from None
            finally:
                await self._release(reader)
        except DatabaseError as error:
            if outcome != "timeout":
                outcome = outcome_of(error)
                self._note(error)
            raise
        else:
            self._note(None)
            return result
        finally:
            self._observer.query_finished(self._name, self._path, outcome, self._clock() - started)

    async def stream(
        self, statement: Statement, batch: int = 1000
    ) -> AsyncGenerator[tuple[tuple[str, ...], Sequence[Row]], None]:
        """Run the statement on a connection of its own and yield its rows."""
        self._check_file()
        reader = await SqliteReader.open(self._path)
        try:
            async with aclosing(reader.stream(statement, batch)) as batches:
                async for item in batches:
                    yield item
        finally:
            await reader.close()

    def describe(self, statement: Statement) -> str:
        """Return the SQL as it is sent."""
        return statement.render(sqlite_quote).decode("utf-8", "backslashreplace")

    def status(self) -> list[HostStatus]:
        """Return the file as the one host."""
        return [
            HostStatus(self._path, self._up, len(self._idle), len(self._busy), self._last_error)
        ]

    async def close(self) -> None:
        """Close every reader; what runs is interrupted."""
        self._closed = True
        while self._waiting:
            self._wake()
        for reader in list(self._readers):
            if reader in self._busy:
                await reader.interrupt()
            else:
                await self._discard(reader)

    async def _acquire(self) -> SqliteReader:
        """Return a reader of the present file, within queue_timeout."""
        deadline = asyncio.get_running_loop().time() + self._settings.queue_timeout
        while True:
            if self._closed:
                raise DatabaseUnavailable(f"database {self._name} is closed", host=self._path)
            try:
                identity = self._check_file()
            except DatabaseUnavailable:
                self._wake()  # the turn that may have been ours is for the next, who is told the same
                raise
            if self._idle:
                reader = self._idle.pop()
                if self._readers[reader] == identity:
                    self._busy.add(reader)
                    return reader
                await self._discard(reader)
            elif len(self._readers) + self._opening < self._settings.readers:
                return await self._open(identity)
            else:
                await self._wait(deadline)

    async def _open(self, identity: FileIdentity) -> SqliteReader:
        self._opening += 1
        try:
            reader = await SqliteReader.open(self._path)
        except BaseException:
            self._wake()
            raise
        finally:
            self._opening -= 1
        self._readers[reader] = identity
        self._busy.add(reader)
        return reader

    async def _wait(self, deadline: float) -> None:
        """Wait until a reader may be free."""
        if len(self._waiting) >= self._settings.max_queued:
            raise DatabaseOverloaded(
                f"database {self._name}: {len(self._waiting)} lookups wait already (max_queued)"
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout_at(deadline):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._wake()  # the turn was ours, and we do not take it
            if not isinstance(error, TimeoutError):
                raise
            timeout = self._settings.queue_timeout
            raise DatabaseOverloaded(
                f"database {self._name}: all readers were busy for queue_timeout ({timeout:g} s)"
            ) from None

    async def _release(self, reader: SqliteReader) -> None:
        self._busy.discard(reader)
        if self._closed:
            await self._discard(reader)
        else:
            self._idle.append(reader)
            self._wake()

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def _discard(self, reader: SqliteReader) -> None:
        self._readers.pop(reader, None)
        if reader in self._idle:
            self._idle.remove(reader)
        await reader.close()

    def _check_file(self) -> FileIdentity:
        """Return the identity of the file that the path names now. Raises DatabaseUnavailable when there is none."""
        now = self._clock()
        if self._identity is None or now - self._checked_at >= CHECK_INTERVAL:
            try:
                found = Path(self._path).stat()
            except OSError as error:
                self._identity = None
                raise DatabaseUnavailable(
                    f"{self._path}: {error.strerror}", host=self._path
                ) from error
            self._identity = (found.st_dev, found.st_ino)
            self._checked_at = now
        return self._identity

    def _note(self, error: DatabaseError | None) -> None:
        """Remember whether the file can be read, and say when that changes."""
        if error is not None and not isinstance(error, DatabaseUnavailable):
            return
        if error is not None:
            self._last_error = str(error)
        up = error is None
        if up != self._up:
            self._up = up
            self._observer.host_state(self._name, self._path, up)
            if up:
                log.info("database %s: %s is readable again", self._name, self._path)
                self._last_error = ""
            else:
                log.warning("database %s: %s", self._name, error)
