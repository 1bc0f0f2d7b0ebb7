from __future__ import annotations

import pytest

from mailmapd.search.address_list import addresses, internal_form


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a@example.com, b@example.com", [b"a@example.com", b"b@example.com"]),
        (b"a@example.com b@example.com", [b"a@example.com", b"b@example.com"]),
        (b"a@example.com,\n  b@example.com", [b"a@example.com", b"b@example.com"]),
        (b"root postmaster", [b"root", b"postmaster"]),
        (b'"john smith"@example.com', [b"john smith@example.com"]),
        (b"John Smith <john@example.com> (at home)", [b"john@example.com"]),
        (b"a (one (nested \\) comment)) @ example.com", [b"a@example.com"]),
        (
            b"friends: a@example.com, B <b@example.com>; c@example.com",
            [b"a@example.com", b"b@example.com", b"c@example.com"],
        ),
        (b"user@[192.0.2.1]", [b"user@[192.0.2.1]"]),
        (b"<>", []),
        (b"(nobody)", []),
        (b"a\\ b@example.com", [b"a b@example.com"]),
        (b'"unclosed', [b"unclosed"]),
        (b"dangling\\", [b"dangling"]),
        (b"one>", [b"one"]),
        (b"", []),
    ],
)
def test_addresses_are_found_as_by_postfix(text: bytes, expected: list[bytes]) -> None:
    """Commas, blanks, quotes, comments, phrases and groups are read as tok822_parse(3) reads them."""
    assert [internal_form(tokens) for tokens in addresses(text)] == expected
