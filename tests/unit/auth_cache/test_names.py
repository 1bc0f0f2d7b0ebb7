from __future__ import annotations

import pytest

from mailmapd.auth_cache.names import user_of
from mailmapd.engine.dicts.definition import PostfixUserQuery
from mailmapd.template.dovecot_query import DovecotQuery
from mailmapd.template.mysql_table import MysqlTable

NAME = b"info@example.com"


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("SELECT 1 FROM t WHERE u = '%u'", NAME),
        ("SELECT 1 FROM t WHERE u = '%Lu'", NAME),
        ("SELECT 1 FROM t WHERE u = '%n' AND d = '%d'", NAME),
        ("SELECT 1 FROM t WHERE d = '%d' AND u = '%n'", NAME),
        ("SELECT 1 FROM t WHERE u = '%n' AND d = '%d' AND s = '%s'", NAME),
        ("SELECT 1 FROM t WHERE u = '%u' AND d = '%d'", NAME),
        ("SELECT 1 FROM t WHERE u = '%n'", None),
        ("SELECT 1 FROM t WHERE d = '%d'", None),
        ("SELECT 1 FROM t", None),
    ],
)
def test_dovecots_queries(query: str, name: bytes | None) -> None:
    """A key that only one user can have is that user's; every other one may be anybody's."""
    compiled = DovecotQuery.compile("t", query)
    sql_key = compiled.sql_key({"user": NAME, "service": b"imap"})
    assert user_of(compiled, sql_key) == name


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("SELECT 1 FROM t WHERE u = '%s'", NAME),
        ("SELECT 1 FROM t WHERE u = '%u' AND d = '%d'", NAME),
        ("SELECT 1 FROM t WHERE u = '%u'", None),
        ("SELECT 1 FROM t WHERE d = '%d'", None),
    ],
)
def test_postfix_queries(query: str, name: bytes | None) -> None:
    """The same of a query with mysql_table(5) meaning."""
    compiled = PostfixUserQuery(MysqlTable.compile("t", query.encode()))
    sql_key = compiled.sql_key({"user": NAME})
    assert sql_key is not None
    assert user_of(compiled, sql_key) == name
