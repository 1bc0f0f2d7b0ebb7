"""Durations and sizes as people write them: ``"5m"``, ``"1.5s"``, ``"24h"``; a plain number is one of seconds."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
DURATION = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>ms|s|m|h|d|w)?")
_MOST = 3_153_600_000.0  # seconds, a hundred years


def parse_duration(value: object) -> float:
    """Return seconds for a number of seconds or a text such as ``"5m"`` (units ms, s, m, h, d, w).

    Raises ValueError with what to write instead.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f'expected a duration such as "30s" or "5m", not {type(value).__name__}')
    if isinstance(value, str):
        match = DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError(
                f'"{value}" is not a duration; write a number with ms, s, m, h, d or w, such as "30s" or "5m"'
            )
        number = match["number"]
        if match["unit"] is None and float(number):
            raise ValueError(
                f'"{value}" is a duration without a unit; write "{number}s", "{number}m" or "{number}h"'
            )
        return _in_range(float(number) * _UNITS[match["unit"] or "s"])
    return _in_range(value)


def _in_range(seconds: float) -> float:
    if not 0 <= seconds <= _MOST:
        raise ValueError("a duration cannot be negative, or longer than a hundred years")
    return float(seconds)
