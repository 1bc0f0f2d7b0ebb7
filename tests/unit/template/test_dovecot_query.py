from __future__ import annotations

import pytest

from mailmapd.errors import DataError, TemplateError
from mailmapd.template.dovecot_query import DovecotQuery


def sql(text: str, **values: str) -> bytes:
    query = DovecotQuery.compile("auth.passdb", text)
    key = query.sql_key({name: value.encode() for name, value in values.items()})
    return query.statement(key).render(lambda raw: raw.replace(b"'", b"\\'"))


def test_values_are_escaped() -> None:
    """A value goes through the connection's quoting, the template's text does not."""
    assert sql("SELECT 'it''s', '%u' -- x", user="o'b") == b"SELECT 'it''s', 'o\\'b' -- x"


def test_key_of_one_user_is_the_user() -> None:
    """A query that uses %u alone has the user name as its key, however often it uses it."""
    query = DovecotQuery.compile("t", "SELECT '%u', '%u'")
    assert query.identity
    assert query.sql_key({"user": b"a@b", "service": b"imap"}) == b"a@b"


def test_key_holds_every_use() -> None:
    """Every different use of a variable is part of the key, after its modifiers; an unused variable is not."""
    query = DovecotQuery.compile("t", "SELECT '%n' '%d' enable%Ls%Lc '%u'")
    assert (
        query.sql_key({"user": b"A@b", "service": b"IMAP", "secured": b"TLS", "lip": b"::1"})
        == b"A\0b\0imap\0tls\0A@b"
    )
    assert query.sources == {"user", "service", "secured"}


def test_domain_query_is_one_entry_per_domain() -> None:
    """A query that only uses the domain has one key for all its users."""
    query = DovecotQuery.compile("t", "SELECT x WHERE d = '%Ld'")
    assert (
        query.sql_key({"user": b"a@EXAMPLE.com"})
        == query.sql_key({"user": b"b@example.com"})
        == b"example.com"
    )


def test_no_variable() -> None:
    """A query without variables has the empty key."""
    query = DovecotQuery.compile("t", "SELECT username FROM users")
    assert query.sql_key({}) == b""
    assert query.statement(b"").pieces == (b"SELECT username FROM users",)


@pytest.mark.parametrize("value", ["imap", "TLS", "", "a_1"])
def test_word_outside_quotes(value: str) -> None:
    """A plain word may stand outside quotes, for example as part of a column name."""
    assert (
        sql("SELECT x FROM t WHERE enable%Ls%Lc = 1", service=value)
        == f"SELECT x FROM t WHERE enable{value.lower()} = 1".encode()
    )


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("id = %n", "1 OR 1=1"),
        ("id = %n", "1;"),
        ("'a\\'b' = %n", "x'"),
        ("`t_%n` = 1", "a`b"),
        ("'a' = '' AND id = %n", "-1"),
        ("x = '\\\\' AND y = %n", "a b"),
    ],
)
def test_value_that_could_change_the_query(text: str, user: str) -> None:
    """Outside quotes, where escaping protects nothing, a value with other characters fails that key."""
    with pytest.raises(DataError, match=r"table auth\.passdb: a variable outside quotes"):
        sql(text, user=user)


@pytest.mark.parametrize("text", ["x = '%u'", 'x = "%u"', "x = 'a\\'%u'", "x = '`' AND y = '%u'"])
def test_any_value_between_quotes(text: str) -> None:
    """Between quotes every value is allowed."""
    assert b"1 OR 1" in sql(text, user="1 OR 1=1;--`")


def test_table_name_between_backquotes() -> None:
    """Between backquotes a dot or a dash is allowed."""
    assert sql("SELECT x FROM `%d`", user="a@ex-ample.com") == b"SELECT x FROM `ex-ample.com`"


def test_nul_is_refused() -> None:
    """A key made of a value with NUL fails."""
    query = DovecotQuery.compile("t", "SELECT '%u'")
    with pytest.raises(DataError, match="NUL"):
        query.statement(query.sql_key({"user": b"a\0b"}))


def test_compile_refuses_the_password() -> None:
    """A query with the plain password does not compile."""
    with pytest.raises(TemplateError, match="%w is the password in plain"):
        DovecotQuery.compile("t", "SELECT '%u' WHERE p = MD5('%w')")


def test_per_login_variables() -> None:
    """Variables that change with every login are named, for `check` to warn of."""
    assert DovecotQuery.compile("t", "SELECT '%p' '%b' '%u'").per_login == {"pid", "rport"}


@pytest.mark.parametrize(
    ("text", "key", "concerned"),
    [
        ("'%u' '%s'", b"a@b\0imap", True),
        ("'%u' '%s'", b"c@b\0imap", False),
        ("'%d'", b"b", True),
        ("'%s'", b"imap", True),
        ("'%n' '%d'", b"a\0other", False),
    ],
)
def test_concerns(text: str, key: bytes, concerned: bool) -> None:
    """An entry concerns a user when every part of its key that comes from a user fits."""
    assert DovecotQuery.compile("t", text).concerns(key, b"a@b") is concerned
