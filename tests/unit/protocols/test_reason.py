from __future__ import annotations

import pytest

from mailmapd.protocols.reason import REASON_LIMIT, safe_reason


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("database mail: no host answers", b"database mail: no host answers"),
        ("", b""),
        ("  two\n\tlines \r\n", b"two lines"),
        ("NUL \0 bell \a é \u2028 \udcff end", b"NUL ? bell ? ? ? end"),
    ],
)
def test_makes_one_printable_line(reason: str, line: bytes) -> None:
    """White space becomes single spaces, other bytes outside printable ASCII question marks."""
    assert safe_reason(reason) == line


def test_is_short() -> None:
    """A reason of any length fits the limit."""
    assert safe_reason("x" * 1_000_000) == b"x" * REASON_LIMIT
    assert len(safe_reason("é " * 1_000_000)) <= REASON_LIMIT
