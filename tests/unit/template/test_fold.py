from __future__ import annotations

import pytest

from mailmapd.template.fold import FOLDS, fold, unfolded


@pytest.mark.parametrize(
    ("key", "folded"),
    [
        (b"User+Ext@Example.COM", b"user+ext@example.com"),
        ("ÜBER@BÜCHER.de".encode(), "über@bücher.de".encode()),
        ("Straße".encode(), b"strasse"),
        ("ΣΊΣΥΦΟΣ".encode(), "σίσυφοσ".encode()),
        ("İ".encode(), "i̇".encode()),
        (b"", b""),
        (b"%s'\\", b"%s'\\"),
    ],
)
def test_keys_are_folded_as_unicode_says(key: bytes, folded: bytes) -> None:
    """Full case folding, which can make a key longer.

    Postfix does it with ICU, equal for every code point of Unicode 14.
    """
    assert fold(key) == folded


@pytest.mark.parametrize(
    "key", [b"\xff", b"caf\xe9@example.com", b"\xc0\xaf", b"\xed\xa0\x80", b"a\0b", "ü\0".encode()]
)
def test_no_table_holds_what_postfix_cannot_ask(key: bytes) -> None:
    """A key that is not UTF-8, or holds a NUL, is in no table, folded or not."""
    assert fold(key) is None
    assert unfolded(key) is None


def test_an_unfolded_key_stays() -> None:
    """A table that keeps upper and lower case gets the key as it came."""
    assert unfolded("Üser@EXAMPLE.com".encode()) == "Üser@EXAMPLE.com".encode()


@pytest.mark.parametrize(
    ("way", "upper", "latin1"),
    [
        ("unicode", "übel@x".encode(), None),
        ("ascii", "Übel@x".encode(), b"caf\xe9"),
        ("utf8", "ÜBEL@X".encode(), None),
        ("none", "ÜBEL@X".encode(), b"CAF\xe9"),
    ],
)
def test_a_map_folds_in_one_of_four_ways(way: str, upper: bytes, latin1: bytes | None) -> None:
    """Folding and the check for UTF-8 are apart, as the flags with which Postfix opens a table are."""
    assert FOLDS[way]("ÜBEL@X".encode()) == upper
    assert FOLDS[way](b"CAF\xe9") == latin1
    assert FOLDS[way](b"a\0b") is None
