from __future__ import annotations

import pytest

from mailmapd.errors import DataError, TemplateError
from mailmapd.model import EMPTY, ResultSet
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.sql_quoting import make_quote


def sql(table: MysqlTable, key: bytes) -> bytes | None:
    sql_key = table.sql_key(key)
    return (
        None
        if sql_key is None
        else table.statement(sql_key).render(make_quote("utf8mb4", no_backslash_escapes=False))
    )


def rows(*values: tuple[bytes | None, ...]) -> ResultSet:
    return ResultSet(("a", "b"), values)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"'%s'", b"'user@sub.example.com'"),
        (b"'%S'", b"'user@sub.example.com'"),
        (b"'%u' '%d'", b"'user' 'sub.example.com'"),
        (b"'%U' '%D'", b"'user' 'sub.example.com'"),
        (b"'%3.%2.%1'", b"'sub.example.com'"),
        (b"'%1' '%u'", b"'com' 'user'"),
        (b"'%d' '%1'", b"'sub.example.com' 'com'"),
        (b"'%s' '%u' '%2'", b"'user@sub.example.com' 'user' 'example'"),
        (b"1 LIKE '100%%'", b"1 LIKE '100%'"),
    ],
)
def test_the_query_is_expanded(query: bytes, expected: bytes) -> None:
    """Each expansion stands for its part of the key."""
    assert sql(MysqlTable.compile("t", query), b"user@sub.example.com") == expected


@pytest.mark.parametrize(
    ("query", "sql_key"),
    [
        (b"'%s'", b"user@sub.example.com"),
        (b"'%u' '%d'", b"user@sub.example.com"),
        (b"'%d'", b"sub.example.com"),
        (b"'%d' '%2'", b"sub.example.com"),
        (b"'%u'", b"user"),
        (b"'%1'", b"com"),
        (b"'%2' '%1' '%2'", b"com\0example"),
        (b"'%u' '%2'", b"user\0example"),
        (b"1", b""),
    ],
)
def test_the_sql_key_is_what_the_query_depends_on(query: bytes, sql_key: bytes) -> None:
    """The cache key holds no more of the key than the query does."""
    assert MysqlTable.compile("t", query).sql_key(b"user@sub.example.com") == sql_key


@pytest.mark.parametrize(
    ("query", "result_format", "key"),
    [
        (b"'%s'", b"%s", b""),
        (b"'%s'", b"%s", b"a\0b"),
        (b"'%u'", b"%s", b"a\0b"),
        (b"'%d'", b"%s", b"user"),
        (b"'%d'", b"%s", b"user@"),
        (b"'%u'", b"%s", b"@example.com"),
        (b"'%1'", b"%s", b"user"),
        (b"'%2'", b"%s", b"user@com"),
        (b"'%2'", b"%s", b"user@..com.."),
        (b"'%s'", b"%D", b"user"),
        (b"'%s'", b"%U", b"@example.com"),
        (b"'%s'", b"%s %3", b"user@example.com"),
        (b"1", b"%1", b"user"),
    ],
)
def test_keys_that_lack_a_part_are_not_asked(
    query: bytes, result_format: bytes, key: bytes
) -> None:
    """No query is sent for a key without a part that the query, or an expansion of the key in result_format, needs."""
    assert MysqlTable.compile("t", query, result_format).sql_key(key) is None


@pytest.mark.parametrize(
    ("query", "result_format", "key", "expected"),
    [
        (b"'%s'", b"%s", b"user", b"'user'"),
        (b"'%s'", b"%d", b"user", b"'user'"),
        (b"'%s'", b"%u", b"@example.com", b"'@example.com'"),
        (b"'%u'", b"%s", b"user", b"'user'"),
        (b"'%u'", b"%s", b"user@", b"'user'"),
        (b"'%u' '%d'", b"%s", b"a@b@example.com", b"'a@b' 'example.com'"),
        (b"'%d'", b"%s", b"@example.com", b"'example.com'"),
        (b"'%2.%1'", b"%s", b"user@a..b", b"'a.b'"),
        (b"'%1'", b"%s", b"user@example.com.", b"'com'"),
    ],
)
def test_keys_that_have_every_part_are_asked(
    query: bytes, result_format: bytes, key: bytes, expected: bytes
) -> None:
    """Parts that are not used may be missing.

    The last @ divides; repeated dots divide once, and dots at the end not at all.
    """
    assert sql(MysqlTable.compile("t", query, result_format), key) == expected


def test_values_are_escaped() -> None:
    """What a client sent is escaped wherever it goes, and the template's own text is not."""
    table = MysqlTable.compile("t", b"SELECT '\\\\' WHERE u='%u' AND d='%d'")
    assert (
        sql(table, b"o'neil\\@ex\"ample")
        == b"SELECT '\\\\' WHERE u='o\\'neil\\\\' AND d='ex\\\"ample'"
    )


def test_a_statement_knows_its_table() -> None:
    """A statement carries the table's name and require_result_set."""
    statement = MysqlTable.compile(
        "mailbox", b"CALL find('%s')", require_result_set=False
    ).statement(b"x")
    assert (statement.table, statement.require_result_set) == ("mailbox", False)


@pytest.mark.parametrize(
    ("key", "asked"),
    [
        (b"user@example.com", True),
        (b"user@example.net", False),
        (b"user", False),
        (b"user@", False),
        (b"@example.com", False),
    ],
)
def test_the_domain_list_saves_queries(key: bytes, asked: bool) -> None:
    """Only whole addresses in a listed domain are asked for."""
    table = MysqlTable.compile("t", b"'%s'", domain=["EXAMPLE.com, !example.net"])
    assert (table.sql_key(key) is not None) is asked


def test_a_table_may_be_told_to_skip_the_sql_key() -> None:
    """A table is an identity exactly if every key is its own SQL key."""
    assert MysqlTable.compile("t", b"'%s' '%S'", b"<%s> %d %S").identity
    for query, result_format, domain in (
        (b"'%s'%u", b"%s", ()),
        (b"'%s'", b"%D", ()),
        (b"1", b"%s", ()),
        (b"'%s'", b"%s", ("a.example",)),
    ):
        assert not MysqlTable.compile("t", query, result_format, domain).identity


def test_all_columns_of_all_rows_count() -> None:
    """Values come row by row, column by column; NULL and empty strings do not count, and a NUL ends a value."""
    table = MysqlTable.compile("t", b"1")
    assert table.values(rows((b"a", None), (b"", b"b"), (b"c\0d", b"\0e"))) == (b"a", b"b", b"c")
    assert table.values(rows((None, b""))) == ()
    assert table.values(EMPTY) == ()


def test_sqlite_tables_have_one_column() -> None:
    """sqlite_table(5) reads the first column only."""
    assert MysqlTable.compile("t", b"1", first_column_only=True).values(
        rows((b"a", b"b"), (None, b"c"))
    ) == (b"a",)


@pytest.mark.parametrize(
    ("result_format", "values", "expected"),
    [
        (b"%s", (b"a",), b"a"),
        (b"%s", (b"a", b"b@c"), b"a,b@c"),
        (b"%s", (), None),
        (b"<%s>%%", (b"a", b"b"), b"<a>%,<b>%"),
        (b"%u at %d", (b"a@b@c",), b"a@b at c"),
        (b"%u", (b"a", b"@b", b"c@"), b"a,c"),
        (b"%d", (b"a", b"b@", b"@c", b"d@e"), b"c,e"),
        (b"%d", (b"a",), None),
        (b"%s-%S-%U-%D-%1", (b"x",), b"x-user@sub.example.com-user-sub.example.com-com"),
        (b"lmtp:%2", (b"x", b"y"), b"lmtp:example,lmtp:example"),
        (b"OK", (b"x",), b"OK"),
    ],
)
def test_result_format_is_applied_to_each_value(
    result_format: bytes, values: tuple[bytes, ...], expected: bytes | None
) -> None:
    """Lower-case expansions speak of the value, the others of the key; a value that lacks a part is left out."""
    assert (
        MysqlTable.compile("t", b"'%s'", result_format).expand(b"user@sub.example.com", values)
        == expected
    )


@pytest.mark.parametrize(
    ("result_format", "depends"),
    [(b"%s%u%d%%", False), (b"%S", True), (b"%D", True), (b"%9", True)],
)
def test_a_result_depends_on_the_key_by_its_format(result_format: bytes, depends: bool) -> None:
    """Only %S %U %D and labels bring the key into the result."""
    assert MysqlTable.compile("t", b"1", result_format).result_depends_on_key is depends


def test_expansion_limit_counts_what_is_left() -> None:
    """More results than expansion_limit are an error, not a shorter answer.

    Values that the format leaves out do not count.
    """
    table = MysqlTable.compile("t", b"1", b"%d", expansion_limit=2)
    assert table.expand(b"k", (b"a@b", b"none", b"c@d")) == b"b,d"
    with pytest.raises(DataError, match="table t: one key has more than 2 values"):
        table.expand(b"k", (b"a@b", b"c@d", b"e@f"))


@pytest.mark.parametrize("limit", [0, -1])
def test_no_limit_is_no_limit(limit: int) -> None:
    """An expansion_limit of zero or less means none."""
    assert (
        MysqlTable.compile("t", b"1", expansion_limit=limit).expand(b"k", (b"a",) * 3) == b"a,a,a"
    )


@pytest.mark.parametrize(
    ("query", "result_format", "parameter"),
    [(b"", b"%s", "query"), (b"1", b"", "result_format"), (b"1", b"%", "result_format")],
)
def test_a_template_must_be_one(query: bytes, result_format: bytes, parameter: str) -> None:
    """An empty or wrong template is an error that names the parameter."""
    with pytest.raises(TemplateError, match=f"^{parameter}: "):
        MysqlTable.compile("t", query, result_format)
