from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmapd.errors import DataError, TemplateError
from mailmapd.template.dovecot_key import DictKey
from mailmapd.template.dovecot_query import DovecotQuery


def key_of(query: str) -> DictKey:
    return DictKey.of("passdb", DovecotQuery.compile("t", query))


@pytest.mark.parametrize(
    ("query", "template"),
    [
        ("SELECT 1", "passdb/%u"),
        ("'%u' '%n' '%Ld'", "passdb/%u"),
        ("enable%Ls%Lc '%u'", "passdb/%u/%Ls/%Lc"),
        ("'%s' '%Ls'", "passdb/%u/%s"),
        ("'%L{service}'", "passdb/%u/%Ls"),
        ("'%a' '%l' '%r' '%{real_rip}'", "passdb/%u/%l/%r/%a/%{real_rip}"),
        ("'%{login_username}' '%{login_domain}' '%s'", "passdb/%u/%s/%{login_user}"),
        ("'%{local_name}'", "passdb/%u/%{local_name}"),
    ],
)
def test_template(query: str, template: str) -> None:
    """The key carries every variable that the query depends on, the free one last."""
    assert key_of(query).template == template


def test_two_free_variables_are_refused() -> None:
    """Two variables of arbitrary content cannot be told apart in a key."""
    with pytest.raises(
        TemplateError, match=r"%\{login_user\} and %\{local_name\} may both hold any character"
    ):
        key_of("'%{login_user}' '%{local_name}'")


@pytest.mark.parametrize("user", [b"a@b", b"a/b@c", b"/", b"imap/x/imap/", "é@ü".encode(), b"a b"])
def test_values(user: bytes) -> None:
    """A user name with slashes is told from the bounded values behind it."""
    key = key_of("'%u' enable%Ls%Lc")
    assert key.values(user + b"/imap/tls", b"") == {
        "user": user,
        "service": b"imap",
        "secured": b"tls",
    }
    assert key.values(user + b"/imap/", b"") == {"user": user, "service": b"imap", "secured": b""}


@given(
    user=st.binary(min_size=1).filter(lambda b: b"\0" not in b),
    free=st.binary().filter(lambda b: b"\0" not in b),
    port=st.integers(0, 65535),
)
def test_free_value_round_trip(user: bytes, free: bytes, port: int) -> None:
    """With the user name beside the key, any user name and any free value come back as they were."""
    key = key_of("'%a' '%{local_name}'")
    values = key.values(b"%b/%d/%b" % (user, port, free), user)
    assert values == {"user": user, "lport": b"%d" % port, "local_name": free}


@pytest.mark.parametrize(
    ("query", "rest", "user"),
    [
        ("'%u'", b"", b""),
        ("'%u' '%s'", b"a@b", b""),
        ("'%u' '%s'", b"/imap", b""),
        ("'%u'", b"a\0b", b""),
        ("'%{local_name}'", b"a/b/name", b""),
        ("'%{local_name}'", b"a/name", b"b"),
        ("'%s' '%{local_name}'", b"a/imap", b"a"),
    ],
)
def test_key_that_does_not_fit(query: str, rest: bytes, user: bytes) -> None:
    """A key of another layout is an error, never an answer about other values."""
    with pytest.raises(DataError, match="passdb: "):
        key_of(query).values(rest, user)


@given(
    user=st.binary(min_size=1).filter(lambda b: b"\0" not in b),
    original=st.binary().filter(lambda b: b"\0" not in b),
)
def test_key_after_a_mismatch(user: bytes, original: bytes) -> None:
    """The question after a mismatch brings both names back as they were, or is refused where they are not certain."""
    key = key_of("'%u' '%s'").after_mismatch
    assert key.template == "passdb-fresh/%u/%s/%{orig_user}"
    rest = user + b"/imap/" + original
    expected = {"user": user, "service": b"imap", "orig_user": original}
    assert key.values(rest, user) == expected
    try:
        assert key.values(rest, b"") == expected
    except DataError:
        assert b"/" in user + original


def test_key_after_a_mismatch_with_a_free_variable() -> None:
    """A query with a free variable has that in its place in the question after a mismatch, too."""
    assert key_of("'%{login_user}'").after_mismatch.template == "passdb-fresh/%u/%{login_user}"
