"""The story of a lookup: its steps, its answer, and that the engine answers the same."""

from __future__ import annotations

import time

import pytest

from mailmapd.cache.table_cache import TableCache
from mailmapd.config.schema import CacheSection
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.maps.map import Map, MapTable
from mailmapd.engine.origin import QueryOrigin
from mailmapd.engine.table import Table
from mailmapd.errors import DatabaseUnavailable
from mailmapd.model import NOT_FOUND, Found, TempFail
from mailmapd.search import Search
from mailmapd.template.fold import fold
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.trace.meaning import meaning
from mailmapd.trace.story import HIDDEN, Event, HostRecorder, Story, without_secrets
from mailmapd.trace.teller import trace
from support.memory_database import MemoryDatabase, Rows, Values

ROWS: dict[Values, Rows] = {
    (b"sales@example.com",): [(b"a@example.com",), (b"b@example.com",)],
    (b"move@example.com",): [(b"@example.net",)],
    (b"@catch.test",): [(b"all@example.com",)],
    (b"empty@example.com",): [(None,), (b"",)],
}
DOMAIN_ROWS: dict[Values, Rows] = {(b"both.test",): [(b"domain@example.com",)]}


def make_map(recorder: HostRecorder) -> tuple[Map, MemoryDatabase]:
    """Return a map of two tables: one by address, one by domain."""
    database = MemoryDatabase(
        "mail",
        lambda _, values: ROWS.get(values) or DOMAIN_ROWS.get(values) or [],
        observer=recorder,
    )
    parts = []
    for name, query in (
        ("alias", b"SELECT a FROM b WHERE c = '%s'"),
        ("by_domain", b"SELECT a FROM b WHERE c = '%d'"),
    ):
        definition = PostfixDefinition(MysqlTable.compile(name, query))
        parts.append(
            MapTable(
                Table(
                    name,
                    QueryOrigin(name, definition, database, time.monotonic),
                    TableCache(CacheSection()),
                    time.monotonic,
                ),
                definition,
                fold=fold,
            )
        )
    search = Search.compile("address", recipient_delimiter=b"+", external_only=True)
    return Map("virtual_alias_maps", parts, search, time.monotonic, propagates=True), database


async def tell(key: bytes) -> Story:
    """Return the story of a key."""
    recorder = HostRecorder()
    map_, _ = make_map(recorder)
    return await trace(map_, key, recorder, time.monotonic)


async def test_steps_follow_postfix_order() -> None:
    """Keys come in Postfix's order, each in every table.

    A query for the domain alone is told once and then referred to.
    """
    story = await tell(b"User+x@nowhere.test")
    assert [(step.key, step.table, step.event) for step in story.steps] == [
        (b"User+x@nowhere.test", "alias", Event.NO_ROW),
        (b"User+x@nowhere.test", "by_domain", Event.NO_ROW),
        (b"User@nowhere.test", "alias", Event.NO_ROW),
        (b"User@nowhere.test", "by_domain", Event.REMEMBERED),
        (b"@nowhere.test", "alias", Event.NO_ROW),
        (b"@nowhere.test", "by_domain", Event.REMEMBERED),
    ]
    assert story.answer is NOT_FOUND
    assert "user+x@nowhere.test" in story.steps[0].sql


async def test_the_answer_is_told_with_its_reason() -> None:
    """An extension that goes on to the result is part of the answer and of the reason."""
    story = await tell(b"sales+q@example.com")
    assert story.answer == Found(b"a+q@example.com,b+q@example.com")
    assert "“+q” goes on to the result" in story.why
    assert story.steps[-1].extension == b"+q"
    assert story.steps[-1].rows is not None
    assert len(story.steps[-1].rows.rows) == 2


async def test_a_key_that_is_not_asked_says_why() -> None:
    """A key without a domain is not sent to a query that needs one, and the step says so."""
    story = await tell(b"user")
    assert [(step.event, step.reason) for step in story.steps][1] == (
        Event.NOT_ASKED,
        "the query needs a domain (%d), and the key has none",
    )


@pytest.mark.parametrize(
    "key",
    [
        b"sales+q@example.com",
        b"move+x@example.com",
        b"any@catch.test",
        b"empty@example.com",
        b"x@both.test",
        b"x@no.test",
    ],
)
async def test_the_engine_answers_the_same(key: bytes) -> None:
    """Whatever the story ends in, the daemon's own walk ends in."""
    recorder = HostRecorder()
    map_, _ = make_map(recorder)
    story = await trace(map_, key, recorder, time.monotonic)
    answer, _ = await map_.answer(key)
    assert story.answer == answer


async def test_a_database_that_is_away_is_never_not_found() -> None:
    """An error ends the story as a temporary failure."""
    recorder = HostRecorder()
    map_, database = make_map(recorder)
    database.failure = DatabaseUnavailable("mail: nobody there")
    story = await trace(map_, b"sales@example.com", recorder, time.monotonic)
    assert story.answer == TempFail("mail: nobody there")
    assert "never “not found”" in story.why


def test_what_happens_next() -> None:
    """The last sentence says what Postfix does with the answer."""
    assert "550 5.1.1" in meaning("virtual_mailbox_maps", NOT_FOUND)
    assert "replaces the recipient" in meaning("virtual_alias_maps", Found(b"x"))
    assert "Nothing bounces" in meaning("anything", TempFail(""))
    assert meaning("my_own_map", Found(b"x")) == ""


async def test_secret_tables() -> None:
    """What a secret table answers is hidden, in its rows and in the answer; that it answered is not."""
    recorder = HostRecorder()
    map_, _ = make_map(recorder)
    map_.tables[0].table.secret = True
    story = await trace(map_, b"sales@example.com", recorder, time.monotonic)
    assert story.answer == Found(b"a@example.com,b@example.com")
    hidden = without_secrets(story)
    assert hidden.answer == Found(HIDDEN)
    assert [step.event for step in hidden.steps] == [Event.ROWS]
    assert "a@example.com" not in repr(hidden).replace("sales@example.com", "")
    open_story = await trace(map_, b"who@both.test", recorder, time.monotonic)
    assert without_secrets(open_story).answer == open_story.answer
