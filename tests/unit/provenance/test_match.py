"""What a row's values say of keys."""

from __future__ import annotations

import pytest

from mailmapd.provenance.match import normal, parts_of
from mailmapd.provenance.reading import UNKNOWN, Part, Pattern, Text

USER, DOMAIN = Part("u"), Part("d")
AT = Text("@")


@pytest.mark.parametrize(
    ("pattern", "value", "found"),
    [
        ((Part("s"),), b"a@b", [{"s": b"a@b"}]),
        ((AT, DOMAIN), b"@b", [{"d": b"b"}]),
        ((AT, DOMAIN), b"a@b", []),
        ((USER, AT, DOMAIN), b"a@b@c", [{"u": b"a", "d": b"b@c"}, {"u": b"a@b", "d": b"c"}]),
        ((USER, AT, UNKNOWN), b"a@b", [{"u": b"a"}]),
        ((UNKNOWN,), b"a", [{}]),
        ((USER, AT, USER), b"a@a", [{"u": b"a"}]),
        ((USER, AT, USER), b"a@b", []),
        ((Text("X"), USER), b"xa", [{"u": b"a"}]),
        ((Text(""),), b"", [{}]),
        ((Text(""),), b"a", []),
    ],
)
def test_parts(pattern: Pattern, value: bytes, found: list[dict[str, bytes]]) -> None:
    """Every way in which a value can be the pattern is found, and no other."""
    assert list(parts_of(pattern, value)) == found


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (b"Bob@Example.COM", b"bob@example.com"),
        (b"bob  ", b"bob"),
        (b"", b""),
        (b"a b", b"a b"),
        (b" a", None),
        (b"b\xf6b", None),
        (b"a\tb", None),
        (b"a\0", None),
    ],
)
def test_normal(value: bytes, same: bytes | None) -> None:
    """Letter case and blanks at the end are what followed collations ignore; other text is not judged."""
    assert normal(value) == same
