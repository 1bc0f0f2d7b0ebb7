"""What memory says of an entry that is only looked at."""

from __future__ import annotations

import pytest

from mailmapd.cache.table_cache import ABSENCE, Absence, TableCache
from mailmapd.config.schema import CacheSection, Seconds
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.engine import Engine
from mailmapd.engine.flush import UnknownName
from mailmapd.engine.look import Held, LookRequest, look
from mailmapd.engine.origin import QueryOrigin
from mailmapd.engine.table import Table
from mailmapd.template.mysql_table import MysqlTable
from support.memory_database import MemoryDatabase

SETTINGS = CacheSection(
    ttl=Seconds(100.0),
    refresh_ahead=0.2,
    negative_ttl=Seconds(50.0),
    stale_ttl=Seconds(1000.0),
    negative_stale_ttl=Seconds(500.0),
    jitter=0.0,
)


def engine(found: bytes | Absence) -> Engine:
    """Return an engine whose one table has stored one entry at second 0."""
    definition = PostfixDefinition(MysqlTable.compile("t", b"SELECT a FROM b WHERE c = '%s'"))
    table = Table(
        "t",
        QueryOrigin("t", definition, MemoryDatabase("mail", {}), lambda: 0.0),
        TableCache(SETTINGS),
        lambda: 0.0,
    )
    table.cache.store(b"key", found, 0.0)
    return Engine({}, {"t": table}, {}, {})


@pytest.mark.parametrize(
    ("found", "now", "held"),
    [
        (b"row", 10.0, Held("fresh", True, 70.0, 10.0)),
        (b"row", 90.0, Held("refresh", True, -10.0, 90.0)),
        (b"row", 500.0, Held("stale", True, -420.0, 500.0)),
        (b"row", 2000.0, Held("nothing")),
        (ABSENCE, 10.0, Held("fresh", False, 40.0, 10.0)),
        (ABSENCE, 60.0, Held("stale", False, -10.0, 60.0)),
        (ABSENCE, 600.0, Held("nothing")),
    ],
)
def test_every_age_is_told(found: bytes | Absence, now: float, held: Held) -> None:
    """Rows and absences are told with their age, and what is of no use any more is nothing."""
    assert look(engine(found), LookRequest("t", b"key"), now) == held


def used(engine: Engine, now: float) -> str:
    """Return what a lookup does with the entry, by the calls of `Table.entry` and `Table.ask`."""
    cache = engine.tables["t"].cache
    entry = cache.get(b"key", now)
    if entry is not None:
        return "fresh" if now < entry[1] else "refresh"
    return "nothing" if cache.stale(b"key", now) is None else "stale"


@pytest.mark.parametrize("found", [b"row", ABSENCE])
@pytest.mark.parametrize("before", [None, -200.0, -70.0, -30.0, 0.0, 20.0])
@pytest.mark.parametrize("doubted", [False, True])
def test_what_a_lookup_does(found: bytes | Absence, before: float | None, doubted: bool) -> None:
    """An age is what a lookup would do with the entry, also when it was distrusted or is in doubt."""
    for now in (0.0, 10.0, 40.0, 49.0, 60.0, 79.0, 90.0, 101.0, 400.0, 490.0, 900.0, 2000.0):
        there = engine(found)
        if before is not None:
            cache = there.tables["t"].cache
            (cache.doubt if doubted else cache.distrust)(before)
        held = look(there, LookRequest("t", b"key"), now)
        assert held.age == used(there, now), now
        assert (held.fresh_for > 0) == (held.age == "fresh")


def test_an_unknown_key_and_an_unknown_table() -> None:
    """A key that was never asked is nothing; a table that is not there is an error with the names that are."""
    assert look(engine(b"row"), LookRequest("t", b"other"), 0.0) == Held("nothing")
    with pytest.raises(UnknownName, match="the tables are: t"):
        look(engine(b"row"), LookRequest("x", b"key"), 0.0)
