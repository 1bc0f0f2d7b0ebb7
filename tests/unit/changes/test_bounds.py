"""What is kept of changes until they are visible takes no more than so many bytes, whatever a server says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from mailmapd.cache import TableCache
from mailmapd.cache.table_cache import KEPT_KEY
from mailmapd.changes.catalog import read_catalog
from mailmapd.changes.forgetting import MOST_SWEPT, Forgetting
from mailmapd.changes.layout import PostfixLayout
from mailmapd.changes.readers import Reader, Readers
from mailmapd.changes.selection import Selection
from mailmapd.changes.touched import TOUCHED_BYTES, Touched
from mailmapd.config.schema import CacheSection
from mailmapd.databases.mysql.binlog.events import Change, Kind, RowsChanged, StatementLogged
from mailmapd.databases.mysql.binlog.session import MAX_CATALOG
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.engine import SLICE, Engine
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.origin import QueryOrigin
from mailmapd.engine.table import Table
from mailmapd.errors import DatabaseError
from mailmapd.model import Row
from mailmapd.provenance.reading import Binding, Part, Reading, Text
from mailmapd.template.mysql_table import MysqlTable
from support.memory_database import MemoryDatabase

PATTERN = (Part("u"), Text("@"), Part("d"))
READING = Reading("t", "alias", frozenset({"address"}), ((Binding("address", PATTERN),),))
LAYOUT = PostfixLayout(MysqlTable.compile("aliases", b"SELECT 1 WHERE '%u@%d' = ''"))
READER = Reader("aliases", LAYOUT, READING, {"address": 0}, {"address": "varchar"})


def readers() -> Readers:
    found = Readers()
    found.by_table["t", "alias"] = [READER]
    return found


def inserted(value: bytes) -> RowsChanged:
    return RowsChanged("t", "alias", Kind.INSERT, [Change(None, (value,))], 1)


def key(number: int) -> bytes:
    return b"user%d@example.com" % number


def touching(*numbers: int) -> Touched:
    touched = Touched()
    for number in numbers:
        touched.add_key("aliases", key(number))
    return touched


def test_touched() -> None:
    """Keys and parts without end stand for all of their tables, and of keys that nobody remembers there are none."""
    for add in ("add_key", "add_parts"):
        touched = Touched()
        touched.add_key("other", b"k")
        for number in range(2 * TOUCHED_BYTES // 100):
            what = key(number) if add == "add_key" else (("s", key(number)),)
            getattr(touched, add)("aliases", what)
            assert touched.size <= TOUCHED_BYTES
        assert touched.whole == {"aliases", "other"}
        assert not touched.keys
        assert not touched.parts
    touched = Touched()
    touched.add_key("aliases", b"k" * (KEPT_KEY + 1))
    assert not touched


@pytest.mark.parametrize("value", [b"-" * 200_000, b"-" * 320, b"a" * 319 + b"--"])
def test_rows_that_fit_in_many_ways(value: bytes) -> None:
    """A value that splits in very many ways, or is too long for an address, has all of its table forgotten, soon."""
    pattern = (Part("u"), Text("-"), Part("d"), Text("-"), Part("1"))
    reading = replace(READING, alternatives=((Binding("address", pattern),),))
    found = Readers()
    found.by_table["t", "alias"] = [replace(READER, reading=reading)]
    touched = Touched()
    begun = time.thread_time()
    Selection(found).add(inserted(value), touched)
    assert time.thread_time() - begun < 0.02
    assert touched.whole == {"aliases"}
    touched = Touched()
    Selection(found).add(inserted(b"a-example-com"), touched)
    assert not touched.whole


def test_rows_of_an_altered_table() -> None:
    """Until the catalog has been read again, rows of a table that DDL names may mean anything."""
    selection = Selection(readers())
    altering = StatementLogged("t", "ALTER TABLE alias RENAME COLUMN a TO b", 1)
    assert selection.add(altering, Touched())

    def whole(selection: Selection) -> bool:
        touched = Touched()
        selection.add(inserted(b"a@example.com"), touched)
        return "aliases" in touched.whole

    assert whole(selection)
    selection.begin_reading()
    assert whole(selection)
    assert not whole(selection.with_readers(readers()))
    selection.add(altering, Touched())
    assert whole(selection.with_readers(readers()))


class Catalogs:
    """Answers about many tables, with long definitions."""

    def __init__(self, count: int, size: int) -> None:
        self._count = count
        self._definition = b"x" * size

    async def rows(self, sql: str, columns: int) -> Sequence[Row]:
        """Answer a question about all tables, or one."""
        if sql.endswith("STATUS"):
            raise DatabaseError("access denied")
        if sql.startswith("SHOW"):
            return [(b"t", self._definition)]
        names = [b"table%d" % number for number in range(self._count)]
        if columns == 7:
            return [
                (b"t", name, b"column%d" % at, b"1", b"int", b"", b"")
                for name in names
                for at in range(20)
            ]
        if columns == 4:
            return [(b"t", name, b"BASE TABLE", b"InnoDB") for name in names]
        return [(b"t", b"view", self._definition)]


async def test_long_definitions() -> None:
    """Of a very long definition nothing is known, and all of them together have a limit."""
    catalog = await read_catalog(Catalogs(1, 300_000).rows)
    assert catalog.view("t", "view") == ""
    with pytest.raises(DatabaseError, match="foreign keys"):
        catalog.cascading_parents("t", "table0")
    with pytest.raises(DatabaseError, match="definitions of all tables"):
        await read_catalog(Catalogs(MAX_CATALOG // 250_000 + 1, 250_000).rows)


async def test_lookups_while_a_catalog_is_taken_in() -> None:
    """While a large catalog is taken in, others have their turn again and again."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    await read_catalog(Catalogs(1000, 100).rows)
    beside.cancel()
    assert turns >= 20 * 1000 // 500


def aliases(*names: str) -> tuple[Engine, list[Invalidation]]:
    """Return an engine of some tables, or of one, and what it is told to forget."""
    definition = PostfixDefinition(MysqlTable.compile("aliases", b"SELECT '%u' WHERE '%d' = ''"))
    database = MemoryDatabase("mail", {(b"u", b"d"): [(b"row",)]})
    tables = {}
    for name in names or ("aliases",):
        origin = QueryOrigin(name, definition, database, time.monotonic)
        tables[name] = Table(name, origin, TableCache(CacheSection()), time.monotonic)
    engine = Engine({"mail": database}, tables, {}, {})
    told: list[Invalidation] = []
    engine.watchers.append(told.append)
    return engine, told


async def test_a_defect_in_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """When keys cannot be looked for because of a defect of ours, all of the table is forgotten."""
    engine, told = aliases()
    forgetting = Forgetting(engine, engine.tables)
    table = engine.tables["aliases"]
    table.cache.store(b"u@d", b"row", 0.0)

    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(PostfixLayout, "parts", broken)
    touched = Touched()
    touched.add_parts("aliases", (("u", b"u"),))
    forgetting.forget(touched)
    while forgetting.sweeps:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert told[-1] == Invalidation("aliases")
    assert table.cache.peek(b"u@d") is None
    await forgetting.close()


async def test_parts_of_very_many_keys() -> None:
    """When parts of very many keys are to be looked for in a table, all of it is forgotten instead."""
    engine, told = aliases()
    forgetting = Forgetting(engine, engine.tables)
    for number in range(MOST_SWEPT + 1):
        touched = Touched()
        touched.add_parts("aliases", (("u", b"%d" % number),))
        forgetting.forget(touched)
        assert bool(told) == (number == MOST_SWEPT)
    assert told == [Invalidation("aliases")]
    await forgetting.close()


@pytest.mark.parametrize(
    ("choices", "whole"), [(1, False), (20, False), (60, True), (MOST_SWEPT, True)]
)
async def test_parts_of_very_many_names(choices: int, whole: bool) -> None:
    """A slice of looking for keys takes about a millisecond, whatever the parts are called; beyond it all are meant."""
    engine, told = aliases()
    table = engine.tables["aliases"]
    for number in range(2 * SLICE):
        table.cache.store(b"u%d@d" % number, b"row", 0.0)
    forgetting = Forgetting(engine, engine.tables)
    touched = Touched()
    for number in range(choices):
        touched.add_parts("aliases", (("u", b"u%d" % number), (f"z{number}", b"")))
    forgetting.forget(touched)
    turns: list[float] = []
    while forgetting.sweeps:
        began = time.process_time()
        await asyncio.sleep(0)
        turns.append(time.process_time() - began)
    assert (Invalidation("aliases") in told) is whole
    assert table.cache.peek(b"u0@d") is None
    assert (table.cache.peek(b"u1999@d") is None) is whole
    assert max(turns) < 0.05  # one slice took forty times as long
    await forgetting.close()


def of_user(table: str, user: bytes) -> Touched:
    """Return every key of a user in a table, as a change names it that says nothing of the domain."""
    touched = Touched()
    touched.add_parts(table, (("u", user),))
    return touched


@pytest.fixture
async def looking() -> AsyncIterator[Forgetting]:
    """Forget in two tables, each of so many entries that lookups have their turn while keys are looked for."""
    engine, _ = aliases("busy", "quiet")
    for table in engine.tables.values():
        for number in range(3 * SLICE):
            table.cache.store(b"u%d@d" % number, b"row", 0.0)
    forgetting = Forgetting(engine, engine.tables)
    yield forgetting
    await forgetting.close()


async def test_no_table_waits_for_another(looking: Forgetting) -> None:
    """A table that changes all the time keeps no other one from being looked through."""
    looking.forget(of_user("quiet", b"u1"))
    quiet = looking._tables["quiet"].cache
    for _ in range(100):
        looking.forget(of_user("busy", b"nobody"))
        await asyncio.sleep(0)
    assert quiet.peek(b"u1@d") is None
    assert quiet.peek(b"u2@d") is not None


async def test_waiting_while_changes_go_on(looking: Forgetting) -> None:
    """Who waits for what was named until now waits for no longer, however many changes come meanwhile."""
    looking.forget(of_user("busy", b"u1"))
    waiting = asyncio.create_task(looking.catch_up())
    async with asyncio.timeout(20):
        while not waiting.done():
            looking.forget(of_user("busy", b"nobody"))
            looking.forget(of_user("quiet", b"nobody"))
            await asyncio.sleep(0)
    assert looking.sweeps
    assert looking._tables["busy"].cache.peek(b"u1@d") is None
