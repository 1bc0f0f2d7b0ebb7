from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailmapd.cache import ABSENCE, TableCache
from mailmapd.config.schema import CacheSection
from mailmapd.engine.answered import Part
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.maps.map import Map, MapTable, Told
from mailmapd.engine.origin import QueryOrigin
from mailmapd.engine.table import Table
from mailmapd.model import Found
from mailmapd.search import PRESETS, Search
from mailmapd.template.fold import fold
from mailmapd.template.mysql_table import MysqlTable
from support.memory_database import MemoryDatabase

PIECES = st.sampled_from(
    [
        b"user",
        b"User",
        b"+",
        b"ext",
        b"@",
        b"@",
        b"example.com",
        b".",
        b"-",
        b'"',
        b"\\",
        b" ",
        b"\xc3\xa9",
        b"\xff",
        b"\0",
        b"127.0.0.1",
        b"owner-",
    ]
)
PLAIN = st.sampled_from(
    [
        b"user@example.com",
        b"User@example.com",
        b"user+ext@example.com",
        b"owner-user@example.com",
        b"user@127.0.0.1",
    ]
)
KEYS = st.one_of(PLAIN, st.lists(PIECES, max_size=6).map(b"".join))
QUERIES = [
    b"SELECT '%s'",
    b"SELECT '%d', '%u'",
    b"SELECT '%s' FROM t WHERE tld = '%1'",
    b"SELECT '%u'",
    b"SELECT '%d'",
]
"""The SQL key of an address is the address itself for the first two."""
VALUES = st.sampled_from([b"value", b"@other.example", b"a@b,c@d"])


@given(
    key=KEYS,
    held=st.dictionaries(KEYS, st.one_of(st.none(), VALUES), max_size=4),
    search=st.sampled_from(PRESETS),
    propagates=st.sampled_from([None, True, False]),
    now=st.sampled_from([0.0, 250.0, 299.0]),
    query=st.sampled_from(QUERIES),
)
@example(
    key=b"user@example.com", held={}, search="exact", propagates=None, now=0.0, query=QUERIES[0]
)
def test_the_short_way_is_the_long_way(
    *,
    key: bytes,
    held: dict[bytes, bytes | None],
    search: str,
    propagates: bool | None,
    now: float,
    query: bytes,
) -> None:
    """What a map tells at its first step is what the whole walk would have told, parts and freshness included."""
    map_ = a_map(key, held, search, propagates, query)
    short = map_.tell_plainly(key, now)
    if short is not None:
        value, until, sql_key = short
        told = Told(Found(value), until, map_.tables[0].present_parts, (sql_key,))
        assert walked(map_, key, now) == told


@pytest.mark.parametrize("query", QUERIES[:2])
def test_plain_addresses_take_the_short_way(query: bytes) -> None:
    """A plain address that the first table holds is told without a walk, by every search that
    begins with the key itself.
    """
    key = b"user@example.com"
    ways = {
        search: a_map(key, {}, search, None, query).tell_plainly(key, 0.0) for search in PRESETS
    }
    assert [search for search, told in ways.items() if told is None] == []


def a_map(
    key: bytes,
    held: dict[bytes, bytes | None],
    search: str,
    propagates: bool | None,
    query: bytes,
) -> Map:
    """Return a map over one table whose memory holds `key` and `held`, None for a row that is known not to exist."""
    definition = PostfixDefinition(MysqlTable.compile("t", query))
    table = Table(
        "t",
        QueryOrigin("t", definition, MemoryDatabase("mail", {}), lambda: 0.0),
        TableCache(CacheSection(jitter=0.0)),
        lambda: 0.0,
    )
    for name, value in {key.lower(): b"value", **held}.items():
        table.cache.store(name, ABSENCE if value is None else value, 0.0)
    found = Search.compile(search, recipient_delimiter=b"+", external_only=propagates is not None)
    return Map(
        "m", [MapTable(table, definition, fold=fold)], found, lambda: 0.0, propagates=propagates
    )


def walked(map_: Map, key: bytes, now: float) -> Told:
    """Return what the whole walk tells of a key that memory answers."""
    parts: list[Part] = []
    keys: list[bytes] = []
    walk = map_._walk(key, now, parts, keys)
    try:
        probe = next(walk)
    except StopIteration as end:
        answer, until = end.value
        return Told(answer, until, tuple(parts), tuple(keys))
    pytest.fail(f"memory does not hold {probe.sql_key!r}, though the short way told an answer")
