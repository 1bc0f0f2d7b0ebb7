"""Preload: rows of a table fetched all at once at the start, so that the cache is warm before anybody asks.

    [table.alias]
    query = "SELECT destination FROM alias WHERE address = '%s'"
    preload = "SELECT address, destination FROM alias"

The statement returns the key, as it is looked up, in its first column, and behind it the columns of
the table's own query; for every key it must return exactly the rows that the query would. Only keys
that are stored as they are looked up (in lower case, unless the table has ``fold = false``) are
kept: about `Info@Example.com` only the database can say whether its comparison takes it for
`info@example.com`.

Rows are kept only after all of them have come, so that no key is ever known by half of its rows.
What was fetched or flushed meanwhile wins.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import NamedTuple, Self
from weakref import WeakSet

from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.dicts.definition import DictDefinition
from mailmapd.engine.invalidation import TouchedSince
from mailmapd.engine.table import Table
from mailmapd.errors import (
    DatabaseError,
    DatabaseOverloaded,
    DatabaseUnavailable,
    DataError,
    SchemaError,
)
from mailmapd.model import ResultSet, Row
from mailmapd.plan.assembly import Assembled
from mailmapd.stats.figures import as_count
from mailmapd.tasks import end_tasks
from mailmapd.template.dovecot_query import DovecotQuery
from mailmapd.template.fold import fold
from mailmapd.template.statement import Statement

log = logging.getLogger(__name__)

BATCH = 500  # rows between two turns of the lookups
PAUSE = 0.001  # seconds that lookups have for themselves after each batch
_ROW_COST, _KEY_COST = 200, 300  # bytes of memory that a row, and a key, take beside their bytes
RETRY = 30.0  # seconds until the next try, when the database cannot be reached


class Preload(NamedTuple):
    """A table, the statement to fill it with, and whether its keys are folded."""

    table: Table
    statement: str
    fold: bool


class Preloader:
    """Preloads each table once.

    Within its `async with`, it does so in the background, and again whenever it is woken.
    """

    def __init__(self, assembled: Callable[[], Assembled], clock: Callable[[], float]) -> None:
        self._assembled = assembled
        self._clock = clock
        self._done: WeakSet[Table] = WeakSet()
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._due.set()
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            await end_tasks([self._task])

    def wake(self) -> None:
        """Look for tables that were not preloaded yet."""
        self._due.set()

    async def _run(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            waiting = [
                preload
                for preload in preloads(self._assembled())
                if preload.table not in self._done
            ]
            finished = [await self._preload(preload) for preload in waiting]
            if not all(finished):
                await asyncio.sleep(RETRY)
                self._due.set()

    async def _preload(self, preload: Preload) -> bool:
        """Fill one table; return whether that is settled, for good or bad."""
        table, started = preload.table, self._clock()
        touched = table.touched = TouchedSince()
        try:
            count = await self._fill(preload, touched)
        except DatabaseError as error:
            again = isinstance(error, DatabaseUnavailable | DatabaseOverloaded)
            log.error(  # noqa: TRY400
                "table %s: preload failed: %s%s",
                table.name,
                error,
                f"; next try in {RETRY:.0f} s" if again else "",
            )
            if again:
                return False
        else:
            log.info(
                "table %s: %s keys preloaded in %.1f s",
                table.name,
                as_count(count),
                self._clock() - started,
            )
        finally:
            table.touched = None
        self._done.add(table)
        return True

    async def _fill(self, preload: Preload, touched: TouchedSince) -> int:
        table = preload.table
        columns, groups = await self._fetch(preload)
        kept = 0
        for number, (key, rows) in enumerate(groups.items()):
            if number % BATCH == 0:
                await asyncio.sleep(PAUSE)
            sql_key = _sql_key(table, key)
            if not rows or sql_key is None or sql_key in touched:
                continue
            try:
                payload = table.definition.payload(ResultSet(columns, tuple(rows)))
            except DataError:
                continue  # a lookup of this key will say what is wrong with its rows
            rows.clear()  # what is kept of them takes their place
            now = self._clock()
            if payload is not None and table.cache.get(sql_key, now) is None:
                table.cache.store(sql_key, payload, now)
                kept += 1
        return kept

    async def _fetch(self, preload: Preload) -> tuple[tuple[str, ...], Mapping[bytes, list[Row]]]:
        """Return the columns behind the key, and the rows of each key.

        None for a key that is not stored as it is looked up.
        """
        groups: dict[bytes, list[Row]] = {}
        room = most = preload.table.cache.rows.spare_bytes()
        strange: set[bytes] = set()
        names: tuple[str, ...] = ()
        statement = Statement(
            preload.table.name, (preload.statement.encode("utf-8", "surrogateescape"),)
        )
        async with aclosing(preload.table.database.stream(statement, BATCH)) as batches:
            async for columns, rows in batches:
                names = columns[1:]
                if columns and not names:
                    raise DataError(
                        f"table {preload.table.name}: preload returns the key alone, and no "
                        "column of the table's query behind it"
                    )
                for key, *values in rows:
                    looked_up = key if key is None or not preload.fold else fold(key)
                    if looked_up is None or key is None:
                        continue
                    if looked_up != key:
                        strange.add(looked_up)
                    room -= _ROW_COST + sum([len(value) for value in values if value is not None])
                    if looked_up not in groups:
                        room -= _KEY_COST + len(looked_up)
                    groups.setdefault(looked_up, []).append(tuple(values))
                if room < 0:
                    raise DataError(
                        f"table {preload.table.name}: preload takes more than the "
                        f"{most / 1024**2:.0f} MiB that there is room for, and nothing of it is "
                        "kept; raise cache.max_bytes, or preload fewer rows"
                    )
                await asyncio.sleep(PAUSE)
        for key in strange:
            groups[key].clear()
        return names, groups


def preloads(assembled: Assembled) -> Iterator[Preload]:
    """Yield what the configuration wants to be preloaded."""
    config, tables = assembled.plan.config, assembled.engine.tables
    for name, section in config.tables.items():
        if section.preload is not None and name in tables:
            yield Preload(tables[name], section.preload, section.fold)
    for name, asked in config.dicts.items():
        for use, table in (("passdb", asked.passdb), ("userdb", asked.userdb)):
            statement = config.tables[table].preload if table is not None else None
            if statement is not None:
                yield Preload(tables[f"{name}.{use}"], statement, fold=False)


def _sql_key(table: Table, key: bytes) -> bytes | None:
    definition = table.definition
    if isinstance(definition, PostfixDefinition):
        return definition.template.sql_key(key)
    if not isinstance(definition, DictDefinition) or not key or b"\0" in key:
        return None
    query = definition.query
    if isinstance(query, DovecotQuery) and query.sources - {"user"}:
        raise SchemaError(
            f"table {table.name}: preload is for queries that depend on the user alone, and this one does not"
        )
    return query.sql_key({"user": key})
