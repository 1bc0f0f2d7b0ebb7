from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailmapd.cache import NO_ROW, TableCache
from mailmapd.config.schema import Cache
from mailmapd.databases.memory import MemoryDatabase
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.map import Map, MapTable, Probe
from mailmapd.engine.table import Table
from mailmapd.search import PRESETS, Search
from mailmapd.template.mysql_table import MysqlTable

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
KEYS = st.lists(PIECES, max_size=6).map(b"".join)
VALUES = st.sampled_from([b"value", b"@other.example", b"a@b,c@d"])


@given(
    key=KEYS,
    held=st.dictionaries(KEYS, st.one_of(st.none(), VALUES), max_size=4),
    search=st.sampled_from(PRESETS),
    propagates=st.sampled_from([None, True, False]),
    now=st.sampled_from([0.0, 250.0, 299.0]),
)
def test_the_short_way_is_the_long_way(
    key: bytes, held: dict[bytes, bytes | None], search: str, propagates: bool | None, now: float
) -> None:
    """What a map tells at its first step is what the whole walk would have told, parts and freshness included."""
    definition = PostfixDefinition(MysqlTable.compile("t", b"SELECT '%s'"))
    table = Table("t", definition, MemoryDatabase("mail", {}), TableCache(Cache(jitter=0.0)), lambda: 0.0)  # type: ignore[arg-type]
    for name, value in {key.lower(): b"value", **held}.items():
        table.cache.store(name, NO_ROW if value is None else value, 0.0)
    found = Search.compile(search, recipient_delimiter=b"+", external_only=propagates is not None)
    one = Map("m", [MapTable(table, definition, fold=True)], found, lambda: 0.0, propagates=propagates)
    short = one._tell_plainly(key, now)
    if short is not None:
        parts: list[object] = []
        answer, until = one._walk(key, now, parts, None)  # type: ignore[arg-type]
        assert not isinstance(answer, Probe)
        assert short == (answer, until, tuple(parts))
