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


def test_an_unknown_key_and_an_unknown_table() -> None:
    """A key that was never asked is nothing; a table that is not there is an error with the names that are."""
    assert look(engine(b"row"), LookRequest("t", b"other"), 0.0) == Held("nothing")
    with pytest.raises(UnknownName, match="the tables are: t"):
        look(engine(b"row"), LookRequest("x", b"key"), 0.0)
