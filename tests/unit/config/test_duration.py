from __future__ import annotations

import pytest

from mailmapd.config.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30),
        ("5m", 300),
        ("24h", 86400),
        ("2d", 172800),
        ("1w", 604800),
        ("1.5s", 1.5),
        ("0", 0),
        (3, 3),
        (0.5, 0.5),
    ],
)
def test_units(text: object, seconds: float) -> None:
    """Durations have a unit, or are seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "wrong",
    ["", "m", "7", "1.5", "5 minutes", "-1s", "1h30m", -1, True, None, float("inf"), float("nan")],
)
def test_refused(wrong: object) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="duration"):
        parse_duration(wrong)
