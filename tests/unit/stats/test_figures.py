from __future__ import annotations

import pytest

from mailmapd.stats.figures import as_age, as_count, as_latency, as_rate, as_ratio


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (as_count(0), "0"),
        (as_count(1_234_567), "1 234 567"),
        (as_rate(0.04), "0.0"),
        (as_rate(99.94), "99.9"),
        (as_rate(1234.5), "1 234"),
        (as_ratio(None), "-"),
        (as_ratio(0.99999), "99.9 %"),
        (as_ratio(1.0), "100 %"),
        (as_latency(None), "-"),
        (as_latency(0.0000042), "4.2 µs"),
        (as_latency(0.00012), "120 µs"),
        (as_latency(0.0015), "1.5 ms"),
        (as_latency(10.0), "10 s"),
        (as_age(0), "0 s"),
        (as_age(59.9), "59 s"),
        (as_age(3600), "1 h 0 m"),
        (as_age(3 * 86400 + 4 * 3600 + 5), "3 d 4 h"),
    ],
)
def test_figures(shown: str, expected: str) -> None:
    """Each kind of figure is short, has its unit, and never looks better than it is."""
    assert shown == expected
