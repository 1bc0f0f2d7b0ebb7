"""The story's walk is the engine's: what another walk would have missed."""

from __future__ import annotations

import time

from mailmapd.cache.table_cache import TableCache
from mailmapd.config.schema import CacheSection
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.maps.map import Map, MapTable, Walk, WalkWatcher
from mailmapd.engine.origin import QueryOrigin
from mailmapd.engine.table import Table
from mailmapd.model import NOT_FOUND, Found
from mailmapd.search import Search
from mailmapd.template.fold import fold
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.trace.story import Event, HostRecorder
from mailmapd.trace.teller import trace
from support.memory_database import MemoryDatabase


def place(
    name: str, query: bytes, database: MemoryDatabase, result_format: bytes = b"%s"
) -> MapTable:
    """Return a table of a map."""
    template = MysqlTable.compile(name, query, result_format=result_format)
    definition = PostfixDefinition(template)
    origin = QueryOrigin(name, definition, database, time.monotonic)
    table = Table(name, origin, TableCache(CacheSection()), time.monotonic)
    return MapTable(table, definition, fold=fold)


class Impatient(Map):
    """A map whose walk ends in an answer of its own."""

    def walk(self, key: bytes, now: float, watcher: WalkWatcher) -> Walk:
        """Ask nobody."""
        yield from ()
        watcher.passes(self.tables[0], next(iter(self.search.keys(key))), key)
        return Found(b"mine"), now


async def test_the_story_is_that_of_the_maps_own_walk() -> None:
    """What the walk does is what the story tells, whatever that is."""
    database = MemoryDatabase("mail", {})
    parts = [place("t", b"SELECT a FROM b WHERE c = '%s'", database)]
    map_ = Impatient("m", parts, Search.compile("exact"), time.monotonic)
    story = await trace(map_, b"k@example.com", HostRecorder(), time.monotonic)
    assert story.answer == Found(b"mine")
    assert [step.event for step in story.steps] == [Event.NOT_ASKED]
    assert not database.asked


async def test_one_query_may_have_a_value_for_a_later_key_only() -> None:
    """Where the result depends on the key, a query that was sent before may answer a later key, as for a client."""
    database = MemoryDatabase("mail", {(b"example.com",): [(b"x",)]})
    parts = [place("t", b"SELECT a FROM b WHERE c = '%d'", database, b"%s-%u")]
    search = Search.compile("address", recipient_delimiter=b"+", external_only=True)
    map_ = Map("m", parts, search, time.monotonic)
    story = await trace(map_, b"user@example.com", HostRecorder(), time.monotonic)
    answer, _ = await map_.answer(b"user@example.com")
    assert story.answer == answer != NOT_FOUND


async def test_a_domain_that_is_not_hosted_is_the_reason() -> None:
    """A map of hosted domains that does not list the domain ends the story, and is named; one that does, does not."""
    database = MemoryDatabase("mail", {(b"example.com",): [(b"1",)]})
    domains = [place("d", b"SELECT a FROM b WHERE domain = '%s'", database)]
    hosted = Map("domains", domains, Search.compile("exact"), time.monotonic)
    parts = [place("t", b"SELECT a FROM b WHERE c = '%s'", database)]
    map_ = Map("m", parts, Search.compile("exact"), time.monotonic, hosted=hosted)
    story = await trace(map_, b"user@elsewhere.test", HostRecorder(), time.monotonic)
    assert story.answer is NOT_FOUND
    assert "domains does not list the domain" in story.why
    assert [step.table for step in story.steps] == ["d"]
    story = await trace(map_, b"user@example.com", HostRecorder(), time.monotonic)
    assert story.why == "no table has any of the keys"
    assert [step.table for step in story.steps] == ["d", "t"]
