from __future__ import annotations

import json

import pytest

from mailmapd.engine.dicts.fields import (
    OBJECT_LIMIT,
    PassdbFields,
    UserdbFields,
    mask_secrets,
    renamed,
)
from mailmapd.errors import DataError, SchemaError
from mailmapd.model import EMPTY, ResultSet


def userdb(columns: tuple[str, ...], *rows: tuple[bytes | None, ...]) -> bytes | None:
    return UserdbFields("auth.userdb").read(ResultSet(columns, rows))


def passdb(
    columns: tuple[str, ...], *rows: tuple[bytes | None, ...], scheme: str = "CRYPT"
) -> bytes | None:
    return PassdbFields("auth.passdb", scheme).read(ResultSet(columns, rows))


def test_row_becomes_a_flat_object() -> None:
    """A row is one JSON object of strings, named and ordered as its columns."""
    assert (
        userdb(("uid", "home", "quota_rule"), (b"5000", b"/srv/a", b"*:bytes=0"))
        == b'{"uid": "5000", "home": "/srv/a", "quota_rule": "*:bytes=0"}'
    )


def test_no_row_is_not_found() -> None:
    """No row is the definite answer that there is no such user."""
    assert userdb(("uid",)) is None
    assert PassdbFields("t", "CRYPT").read(EMPTY) is None


def test_null_is_an_absent_field() -> None:
    """NULL leaves the field out; a row of NULLs is a user without fields."""
    assert userdb(("uid", "home"), (None, b"/srv/a")) == b'{"home": "/srv/a"}'
    assert userdb(("uid", "home"), (None, None)) == b"{}"


def test_empty_string_is_a_field() -> None:
    """An empty string is a value, as for Dovecot's own driver."""
    assert userdb(("home",), (b"",)) == b'{"home": ""}'


def test_column_without_a_name_is_skipped() -> None:
    """Dovecot refuses an empty object key, so a column without a name is left out."""
    assert userdb(("", "home"), (b"x", b"/srv/a")) == b'{"home": "/srv/a"}'


def test_several_rows_are_an_error() -> None:
    """More than one row fails that user, and the text names the table only."""
    with pytest.raises(DataError, match=r"^table auth\.userdb: more than one row for one user$"):
        userdb(("home",), (b"/a",), (b"/b",))


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (b"$6$abc", b"{CRYPT}$6$abc"),
        (b"{BLF-CRYPT}$2y$x", b"{BLF-CRYPT}$2y$x"),
        (b"{unclosed", b"{CRYPT}{unclosed"),
        (b"{}x", b"{}x"),
        (b"plain}x", b"{CRYPT}plain}x"),
        (b"", b"{CRYPT}"),
    ],
)
def test_scheme_prefix(value: bytes, field: bytes) -> None:
    """A password without {SCHEME} gets the configured one."""
    assert passdb(("password",), (value,)) == b'{"password": "%b"}' % field


def test_password_noscheme_is_always_prefixed() -> None:
    """A password_noscheme column is a password whose braces are part of it."""
    assert (
        passdb(("password_noscheme",), (b"{odd}pw",), scheme="PLAIN")
        == b'{"password": "{PLAIN}{odd}pw"}'
    )


def test_first_password_counts() -> None:
    """Of several password columns Dovecot takes the first that is not NULL."""
    columns = ("password", "user", "password", "password_noscheme")
    assert (
        passdb(columns, (None, b"a", b"{PLAIN}1", b"2")) == b'{"user": "a", "password": "{PLAIN}1"}'
    )


def test_password_column_is_required() -> None:
    """A password query without a password column cannot answer anybody."""
    with pytest.raises(SchemaError, match="must return a column named password"):
        passdb(("user",), (b"a",))


def test_null_password() -> None:
    """A NULL password is absent, which Dovecot refuses unless the row says nopassword."""
    assert passdb(("password", "nopassword"), (None, b"Y")) == b'{"nopassword": "Y"}'


def test_special_characters() -> None:
    """Whatever a value holds comes back from the JSON text, and control characters never stand in it."""
    value = bytes(range(1, 128)) + "é😀".encode()
    text = userdb(("x",), (value,))
    assert text is not None
    assert json.loads(text)["x"] == value.decode()
    assert min(text) >= 0x20


def test_bytes_outside_utf8_pass() -> None:
    """Bytes that are not UTF-8 reach Dovecot as they are, as with its own driver."""
    assert userdb(("x",), (b"caf\xe9",)) == b'{"x": "caf\xe9"}'


def test_nul_is_an_error() -> None:
    """Dovecot reads no NUL, so such a value fails that user; the text names the column, not the value."""
    with pytest.raises(DataError, match=r"table auth\.userdb: column 'home' holds a NUL byte"):
        userdb(("home",), (b"secret\0",))


def test_row_too_long_for_a_reply() -> None:
    """A row that no reply line can hold is an error, never cut."""
    with pytest.raises(DataError, match="longer than"):
        userdb(("x",), (b"a" * OBJECT_LIMIT,))


def test_mask_secrets() -> None:
    """Passwords are hidden when people look, other fields are not."""
    shown = mask_secrets(
        b'{"user": "a", "password": "{PLAIN}geheim", "userdb_crypt_private_key": "k", "home": "/srv/\xe9"}'
    )
    assert b"geheim" not in shown
    assert json.loads(shown) == {
        "user": "a",
        "password": "(hidden)",
        "userdb_crypt_private_key": "(hidden)",
        "home": "/srv/�",
    }


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        (b'{"password": "{PLAIN}x"}', b"nick@a"),
        (b'{"user": "u@b", "password": "{PLAIN}x"}', b"u@b"),
        (b'{"username": "u", "domain": "b"}', b"u@b"),
        (b'{"username": "u"}', b"u@a"),
        (b'{"domain": "b"}', b"nick@b"),
        ('{"user": "ü\\u0001"}'.encode(), "ü\x01".encode()),
    ],
)
def test_renamed(fields: bytes, name: bytes) -> None:
    """The fields of a row make another name of the user's, in their order."""
    assert renamed(b"nick@a", fields) == name
