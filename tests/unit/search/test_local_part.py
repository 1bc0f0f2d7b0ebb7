from __future__ import annotations

import pytest

from mailmapd.search.local_part import quote, read, unquote


@pytest.mark.parametrize(
    ("internal", "external"),
    [
        (b"user@example.com", b"user@example.com"),
        (b"john smith@example.com", b'"john smith"@example.com'),
        (b'q"r\\s@example.com', b'"q\\"r\\\\s"@example.com'),
        (b"a@b@example.com", b'"a@b"@example.com'),
        (b".dot@example.com", b'".dot"@example.com'),
        (b"dot.@example.com", b'"dot."@example.com'),
        (b"a..b@example.com", b'"a..b"@example.com'),
        ("zoë@example.com".encode(), "zoë@example.com".encode()),
        (b"", b'""'),
        (b"@example.com", b'""@example.com'),
        (b"@relay.example:a b@example.com", b'@relay.example:"a b"@example.com'),
    ],
)
def test_local_parts_are_quoted_when_they_must_be(internal: bytes, external: bytes) -> None:
    """A local part that is no dot-string gets quotes, and only then; the external form reads back."""
    assert quote(internal) == external
    assert unquote(external) == internal


def test_a_bare_local_part_is_quoted_as_a_whole() -> None:
    """Without a domain, an @ belongs to the local part and needs quotes."""
    assert quote(b"a@b", bare=True) == b'"a@b"'


def test_the_domain_is_never_unquoted() -> None:
    """Quotes and backslashes behind the last unquoted @ stay."""
    assert unquote(b'"a b"@do"main\\') == b'a b@do"main\\'


def test_a_second_request_is_not_unquoted() -> None:
    """An address that no quoting gives is Postfix's internal form: a"b@example.com must not become ab@example.com."""
    assert read(b'a"b@example.com') == (b'a"b@example.com', False)
    assert read(b'"a b"@example.com') == (b"a b@example.com", True)
    assert read(b'"ab"@example.com') == (b'"ab"@example.com', False)
