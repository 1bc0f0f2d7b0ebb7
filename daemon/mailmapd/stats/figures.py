"""Figures: counts, rates, shares and times as people read them, in `stats`, `top` and the status page."""

from __future__ import annotations

NOTHING = "-"
_UNITS = ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (float("inf"), 1.0, "s"))


def as_count(count: int) -> str:
    """Return a count with its thousands apart: ``1 234 567``."""
    return f"{count:,}".replace(",", " ")


def as_rate(rate: float) -> str:
    """Return a number per second: ``0.4``, ``12.5``, ``1 234``."""
    return as_count(round(rate)) if rate >= 100 else f"{rate:.1f}"


def as_ratio(ratio: float | None) -> str:
    """Return a share in percent, rounded down so that only everything is ``100 %``."""
    if ratio is None:
        return NOTHING
    return "100 %" if ratio >= 1 else f"{int(ratio * 1000) / 10:.1f} %"


def as_latency(seconds: float | None) -> str:
    """Return a time with two or three figures: ``4.2 µs``, ``120 µs``, ``1.5 s``."""
    if seconds is None:
        return NOTHING
    for limit, factor, unit in _UNITS:
        if seconds < limit:
            value = seconds * factor
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    raise AssertionError


def as_age(seconds: float) -> str:
    """Return a duration in its two largest units: ``3 d 4 h``, ``5 m 12 s``."""
    rest = max(int(seconds), 0)
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        if rest >= size or parts:
            parts.append(f"{rest // size} {unit}")
        rest %= size
    return " ".join(parts[:2]) or "0 s"


def as_bytes(number: float) -> str:
    """Return an amount of memory, such as ``12.3 MiB``."""
    size = float(number)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
