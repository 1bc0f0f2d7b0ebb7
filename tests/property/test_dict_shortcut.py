from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailmapd.cache import TableCache
from mailmapd.config.schema import CacheSection
from mailmapd.engine.dicts.definition import DictDefinition, PostfixUserQuery
from mailmapd.engine.dicts.dict import PREFIX_SIZE, Dict, DictTable, Question
from mailmapd.engine.dicts.fields import UserdbFields
from mailmapd.engine.origin import QueryOrigin
from mailmapd.engine.table import Table
from mailmapd.template.dovecot_key import DictKey
from mailmapd.template.dovecot_query import DovecotQuery
from mailmapd.template.mysql_table import MysqlTable
from support.memory_database import MemoryDatabase

USER_ONLY = DovecotQuery.compile("t", "SELECT home FROM users WHERE name = '%u'")
QUERIES: dict[str, DovecotQuery | PostfixUserQuery] = {
    "%u": USER_ONLY,
    "%s as in mysql_table": PostfixUserQuery(MysqlTable.compile("t", b"SELECT '%s'")),
    "lower case": DovecotQuery.compile("t", "SELECT home FROM users WHERE name = '%Lu'"),
    "parts": DovecotQuery.compile("t", "SELECT home FROM users WHERE name = '%n' AND d = '%d'"),
    "twice": DovecotQuery.compile("t", "SELECT '%u' FROM users WHERE name = '%u'"),
    "domain of mysql_table": PostfixUserQuery(MysqlTable.compile("t", b"SELECT '%d'")),
    "service": DovecotQuery.compile("t", "SELECT home FROM users WHERE name = '%u' AND s = '%Ls'"),
}
PIECES = st.sampled_from(
    [b"shared/userdb/", b"shared/passdb/", b"shared/", b"user", b"User", b"@", b"/", b"imap", b"\0"]
)
KEYS = st.lists(PIECES, max_size=5).map(b"".join) | st.binary(max_size=20)


def a_dict(query: DovecotQuery | PostfixUserQuery) -> Dict:
    """Return a dict whose users are asked for with this query, without passwords."""
    definition = DictDefinition(query, UserdbFields("t"))
    cache = TableCache(CacheSection())
    table = Table(
        "t",
        QueryOrigin("t", definition, MemoryDatabase("mail", {}), lambda: 0.0),
        cache,
        lambda: 0.0,
    )
    key = DictKey.of("userdb", query) if isinstance(query, DovecotQuery) else DictKey("userdb")
    return Dict("auth", userdb=DictTable(table, definition, key))


@given(key=KEYS, user=st.sampled_from([b"", b"user"]), query=st.sampled_from(sorted(QUERIES)))
@example(key=b"shared/userdb/user", user=b"", query="%u")
@example(key=b"shared/userdb//", user=b"user", query="%u")
def test_the_short_way_is_the_long_way(key: bytes, user: bytes, query: str) -> None:
    """What a plain table is asked for, behind the prefix of a key, is what the whole way would ask it for."""
    asked = a_dict(QUERIES[query])
    table = asked.plain_tables().get(key[:PREFIX_SIZE])
    sql_key = key[PREFIX_SIZE:]
    if table is not None and sql_key and 0 not in sql_key:
        assert asked.parse(key, user) == Question(table, sql_key)


@pytest.mark.parametrize(
    ("query", "plain"), [("%u", True), ("%s as in mysql_table", True), ("parts", False)]
)
def test_usual_queries_take_the_short_way(query: str, plain: bool) -> None:
    """A query that depends on nothing but the user name as it is takes the short way, and no other."""
    assert bool(a_dict(QUERIES[query]).plain_tables()) is plain
