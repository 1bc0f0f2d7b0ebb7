"""Warm start: caches are saved on shutdown and now and then, and loaded in the background at the next start.

Both work in slices of about a millisecond, between which lookups are answered; files are read and
written in a thread. What was fetched meanwhile wins over what is loaded, and what was flushed
meanwhile is not loaded. A flush also removes the file: after a crash, it must not bring back what
somebody wanted to be forgotten. The next save writes a new one.

Only tables whose definition and database are those of the file take entries from it. The tables of
dicts, which hold passwords, are neither saved nor loaded unless `state.passwords` says so. Times in
the file are those of the wall clock; entries keep their expiry.

Of a table whose changes are followed, entries keep their long time, too, but what is loaded of it is in doubt: it
counts from when the file was begun, until a follower has gone on from the place that the file names.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mailmapd.config.files import path_beside
from mailmapd.engine.invalidation import Invalidation, TouchedSince
from mailmapd.engine.table import Table
from mailmapd.plan.assembly import Assembled
from mailmapd.state.cache_file import (
    CacheFileError,
    CacheFileWriter,
    CacheRecord,
    Kept,
    TableHeader,
    blocks,
    check,
    decode_records,
    encode_record,
)
from mailmapd.state.journal import Journal
from mailmapd.state.preload import Preloader
from mailmapd.state.state_file import Replacement, open_to_read, set_aside
from mailmapd.state.table_digest import table_digests
from mailmapd.stats.figures import as_count
from mailmapd.tasks import end_tasks

log = logging.getLogger(__name__)

FILE_NAME = "cache"
SLICE = 500  # entries between two turns of the lookups
MOST_WRITTEN_DOWN = 4 * 1024 * 1024  # bytes of what was flushed since the last save
PAUSE = 0.001  # seconds that lookups have for themselves after each slice

Clock = Callable[[], float]
Keep = Callable[[], Awaitable[Mapping[str, Any]]]
"""Returns what those who know of changes go on from later, by their names, each with the names of its `tables`."""


@dataclass(frozen=True)
class _Saved:
    """A table that is saved and loaded."""

    table: Table
    digest: bytes


class WarmStart:
    """Saves and loads the caches of the daemon's present engine, as its present configuration says.

    `begin` is called once the daemon answers, `finish` when it does not any more; both do nothing
    without `state.directory`.
    """

    def __init__(
        self,
        assembled: Callable[[], Assembled],
        clock: Clock,
        wall_clock: Clock = time.time,
        *,
        keep: Keep | None = None,
    ) -> None:
        self._kept: Mapping[str, Any] = {}
        self._keep = keep
        self._named = asyncio.Event()
        self._read = asyncio.Event()
        self._assembled = assembled
        self._clock = clock
        self._wall_clock = wall_clock
        self._preloader = Preloader(assembled, clock)
        self._task: asyncio.Task[None] | None = None
        self._loaded = False
        self._flushes = 0
        self._saving = asyncio.Lock()
        self._replacing = asyncio.Lock()

    @property
    def path(self) -> Path | None:
        """Return the file, if there is to be one."""
        config = self._assembled().plan.config
        return (
            None
            if config.state.directory is None
            else path_beside(config.file, config.state.directory) / FILE_NAME
        )

    def begin(self) -> None:
        """Load and preload in the background, then save again and again."""
        for saved in self._tables().values():
            saved.table.touched = TouchedSince()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def kept(self) -> Mapping[str, Any]:
        """Return what those who know of changes go on from, by their names, as soon as the file has said that."""
        await self._named.wait()
        return self._kept

    async def loaded(self) -> Mapping[str, Any]:
        """Wait until all is loaded, or will not be; return what `kept` does."""
        await self._read.wait()
        return self._kept

    def reloaded(self) -> None:
        """Preload the tables that a new configuration has brought."""
        self._preloader.wake()

    async def forgotten(self, invalidations: Sequence[Invalidation]) -> None:
        """Have it written down that these entries may not be loaded again; remove the file if that cannot be done."""
        path = self.path
        if path is None or not invalidations:
            return
        journal = _journal(path)
        async with self._replacing:
            try:
                if await asyncio.to_thread(journal.size) > MOST_WRITTEN_DOWN:
                    await self._begin_anew(path, journal)
                else:
                    await asyncio.to_thread(journal.add, invalidations)
            except OSError as error:
                log.error("state: a flush cannot be written down: %s", error.strerror)  # noqa: TRY400
            else:
                return
            self._flushes += 1
            try:
                await asyncio.to_thread(path.unlink, missing_ok=True)
            except OSError as error:
                log.error(  # noqa: TRY400
                    "state: %s cannot be removed after a flush: %s; remove it", path, error.strerror
                )

    async def _begin_anew(self, path: Path, journal: Journal) -> None:
        """Remove the file, and so all that must not be believed of it, until the next save. Raises OSError."""
        self._flushes += 1
        await asyncio.to_thread(path.unlink, missing_ok=True)
        await asyncio.to_thread(journal.remove)
        log.warning(
            "state: very much was flushed since the last save; %s is removed until the next", path
        )

    async def finish(self) -> None:
        """Stop what goes on in the background, and save. A file that was not loaded completely stays as it is."""
        if self._task is not None:
            await end_tasks([self._task])
            self._task = None
        self._named.set()  # also where the task had no time to begin
        self._read.set()
        path = self.path
        if path is not None and (self._loaded or not await asyncio.to_thread(path.exists)):
            await self.save(pause=0.0)

    async def save(self, *, pause: float = PAUSE) -> None:
        """Save the caches now; a failure is logged, and leaves the file as it was."""
        path = self.path
        if path is None:
            return
        async with self._saving:
            started = self._clock()
            try:
                count = await self._save(path, pause)
            except OSError as error:
                # The reason says it all
                log.error("state: the cache is not saved: %s: %s", path, error.strerror)  # noqa: TRY400
                return
        if count is not None:
            log.info(
                "state: %s entries saved to %s in %.1f s",
                as_count(count),
                path,
                self._clock() - started,
            )

    async def _run(self) -> None:
        # A million loaded entries are no garbage, and a full collection, which stops everything,
        # would look at each of them …
        gc.disable()
        try:
            await self._load()
        except Exception:
            log.exception("state: loading ended in a defect of mailmapd; it goes on without")
        finally:
            gc.freeze()  # … now and ever after
            gc.enable()
            self._named.set()
            self._read.set()
        for table in self._assembled().engine.tables.values():
            table.touched = None
        self._loaded = True
        async with self._preloader:
            while True:
                await asyncio.sleep(self._assembled().plan.config.state.save_interval)
                await self.save()

    def _tables(self) -> dict[str, _Saved]:
        assembled = self._assembled()
        passwords = assembled.plan.config.state.passwords
        marked = {name for name, plan in assembled.plan.tables.items() if plan.secret}
        tables = assembled.engine.tables
        digests = table_digests(assembled.plan)
        return {
            name: _Saved(tables[name], digest)
            for name, digest in digests.items()
            if name not in marked and (passwords or not tables[name].secret)
        }

    async def _save(self, path: Path, pause: float) -> int | None:
        """Write the file; return how many entries it has, or None when a flush came in between."""
        flushes, count = self._flushes, 0
        journal = _journal(path)
        async with self._replacing:
            written_down = await asyncio.to_thread(journal.size)
        offset = self._wall_clock() - self._clock()
        replacement = await asyncio.to_thread(Replacement, path)
        try:
            # First of all: whatever is written after it is as it was there, or newer
            kept = {} if self._keep is None else await self._keep()
            writer = CacheFileWriter(replacement.stream, self._wall_clock())
            writer.kept(Kept(kept))
            for name, saved in self._tables().items():
                writer.table(TableHeader(saved.digest, name))
                keys = saved.table.cache.keys()
                followed = _is_followed(saved.table, kept)
                for start in range(0, len(keys), SLICE):
                    some = keys[start : start + SLICE]
                    records = self._encoded(saved.table, some, offset, followed=followed)
                    count += len(records)
                    await asyncio.to_thread(writer.records, records)
                    if pause:
                        await asyncio.sleep(pause)
            writer.finish()
            await asyncio.to_thread(replacement.flush)
            async with self._replacing:
                if flushes == self._flushes:
                    await asyncio.to_thread(replacement.commit)
                    await asyncio.to_thread(journal.cut, written_down)
                    return count
        finally:
            await asyncio.to_thread(replacement.discard)
        return None

    def _encoded(
        self, table: Table, keys: Sequence[bytes], offset: float, *, followed: bool
    ) -> list[bytes]:
        now, cache = self._clock(), table.cache
        records = []
        for key in keys:
            entry = cache.peek(key)
            if entry is not None and not cache.useless(entry, now):
                found, until = entry if followed else cache.proven(entry, now)
                records.append(encode_record(CacheRecord(key, found, until + offset)))
        return records

    async def _load(self) -> None:
        path = self.path
        if path is None:
            return
        started = self._clock()
        try:
            for invalidation in await asyncio.to_thread(_journal(path).read):
                self._leave_out(invalidation)
            with open_to_read(path) as stream:
                written_at = await asyncio.to_thread(check, stream)
                count = await self._take(stream, written_at)
        except FileNotFoundError:
            if os.access(path.parent, os.W_OK | os.X_OK):
                log.info("state: there is no saved cache in %s yet", path.parent)
            else:
                log.error(  # noqa: TRY400
                    "state: %s is missing or read-only, so caches cannot be saved; make it the daemon's own folder",
                    path.parent,
                )
        except CacheFileError as error:
            await self._set_aside(path, error)
        except OSError as error:
            log.error("state: the saved cache is not loaded: %s: %s", path, error.strerror)  # noqa: TRY400
        else:
            age = max(self._wall_clock() - written_at, 0.0)
            text = "state: %s entries loaded from %s in %.1f s; it was saved %.0f s ago"
            log.info(text, as_count(count), path, self._clock() - started, age)

    async def _take(self, stream: BinaryIO, written_at: float) -> int:
        """Load every usable entry, block by block; return how many there were."""
        tables = self._tables()
        offset = self._clock() - self._wall_clock()
        count = 0
        table: Table | None = None
        parts = blocks(stream)
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            if isinstance(part, Kept):
                self._kept = part.sources
                self._named.set()
            elif isinstance(part, TableHeader):
                saved = tables.get(part.name)
                table = saved.table if saved is not None and saved.digest == part.digest else None
                if saved is not None and table is None:
                    log.info(
                        "state: table %s is another one now; its saved entries are left out",
                        part.name,
                    )
                if table is not None and _is_followed(table, self._kept):
                    # Not later than now, whatever the clock of the host said that has written it
                    table.cache.load_in_doubt(min(written_at + offset, self._clock()))
            elif table is not None:
                count += self._restore(table, part, offset, written_at + offset)
                await asyncio.sleep(PAUSE)
        return count

    def _restore(self, table: Table, block: bytes, offset: float, written_at: float) -> int:
        now, cache, touched, count = self._clock(), table.cache, table.touched, 0
        for key, found, until in decode_records(block):
            if touched is None or key not in touched:
                entry = found, until + offset
                if not cache.loads_in_doubt:
                    entry = cache.proven(entry, min(written_at, now))
                count += cache.restore(key, entry, now)
        return count

    def _leave_out(self, invalidation: Invalidation) -> None:
        """Believe nothing that the file says of what was forgotten after it was written."""
        for name, table in self._assembled().engine.tables.items():
            if table.touched is not None and invalidation.table in {"", name}:
                table.touched.add(invalidation.keys, unseen=invalidation.unseen)

    async def _set_aside(self, path: Path, error: CacheFileError) -> None:
        try:
            bad = await asyncio.to_thread(set_aside, path)
        except OSError as failure:
            log.error("state: %s %s, and cannot be set aside: %s", path, error, failure.strerror)  # noqa: TRY400
        else:
            log.error("state: %s %s; it is ignored, and set aside as %s", path, error, bad.name)


def _is_followed(table: Table, kept: Mapping[str, Any]) -> bool:
    """Return whether somebody goes on from a place until which all changes of a table were known."""
    tables = [value.get("tables") for value in kept.values() if isinstance(value, Mapping)]
    return any(isinstance(names, list) and table.name in names for names in tables)


def _journal(path: Path) -> Journal:
    return Journal(path.with_suffix(".forgotten"))
