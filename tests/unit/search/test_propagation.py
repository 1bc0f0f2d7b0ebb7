from __future__ import annotations

import pytest

from mailmapd.search import propagate


def test_nothing_changes_without_an_extension() -> None:
    """A result found for the full address is returned as it is, whatever it looks like."""
    for value in (b"@other.example", b" a@b , (c)", b"1"):
        assert propagate(value, b"user@example.com", b"", enabled=True) is value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a@example.net", b"a+ext@example.net"),
        (b"a@example.net, b@example.org", b"a+ext@example.net,b+ext@example.org"),
        (b"root", b"root+ext"),
        (b'"x y"@example.net', b'"x y+ext"@example.net'),
        (b"A <a@example.net> (a)", b"a+ext@example.net"),
        (b"host!user", b"user+ext@host"),
        (b"user%host", b"user+ext@host"),
        (b"<@a.example,@b.example:user@c.example>", b"user+ext@c.example"),
    ],
)
def test_the_extension_goes_onto_every_address(value: bytes, expected: bytes) -> None:
    """The unmatched extension is added to the local part of each address of the result."""
    assert propagate(value, b"user+ext@example.com", b"+ext", enabled=True) == expected


def test_another_domain_keeps_the_local_part() -> None:
    """Postfix puts the full local part before @other.example.

    That is the result with propagation, and wrong without.
    """
    assert (
        propagate(b"@other.example", b"user+ext@example.com", b"+ext", enabled=True)
        == b"@other.example"
    )
    assert (
        propagate(b"@other.example", b"user+ext@example.com", b"+ext", enabled=False)
        == b"user@other.example"
    )


def test_a_quoted_key_gives_a_quoted_result() -> None:
    """Without propagation, the local part of a quoted key goes before @other.example in quotes."""
    assert (
        propagate(b"@other.example", b'"a b+ext"@example.com', b"+ext", enabled=False)
        == b'"a b"@other.example'
    )


def test_a_disabled_propagation_keeps_the_result() -> None:
    """Without propagation an ordinary result is returned as it is."""
    assert (
        propagate(b"a@example.net, b", b"user+ext@example.com", b"+ext", enabled=False)
        == b"a@example.net, b"
    )


def test_a_percent_sign_in_the_extension_stays_there() -> None:
    """user+50%off without a domain is quoted, so that Postfix does not turn it into user+50@off."""
    assert propagate(b"user", b"u+50%off@example.com", b"+50%off", enabled=True) == b'"user+50%off"'


def test_a_result_without_addresses_is_returned_for_postfix_to_refuse() -> None:
    """Postfix reports a result that holds no address; it must get to see it."""
    assert propagate(b"(none)", b"user+ext@example.com", b"+ext", enabled=True) == b"(none)"
