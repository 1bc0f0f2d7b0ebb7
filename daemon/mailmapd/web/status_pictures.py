"""The last hour as four small pictures: inline SVG, without a script, a font or a file from elsewhere.

Colours and strokes are the style sheet's, by class; the policy of the page allows nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape

from mailmapd.stats.figures import NOTHING, as_latency, as_rate, as_ratio
from mailmapd.stats.history import Minute

HOUR = 3600.0  # seconds that a picture is wide
WIDTH, HEIGHT = 240.0, 56.0  # units of the picture
_TOP = 4.0  # units above the highest value, so that its stroke is whole
_FLOOR = HEIGHT - 1.0

Point = tuple[float, float]


def hour(minutes: Sequence[Minute], now: float) -> str:
    """Return the section with the pictures of the hour that ends `now`."""
    if not minutes:
        text = "The first minute has not passed yet."
        return f"<section><h2>The last hour</h2><p>{text}</p></section>"
    pictures = [
        _picture("Lookups a second", minutes, now, lambda minute: minute.rate, _rate),
        _picture(
            "From memory", minutes, now, lambda minute: minute.from_memory, as_ratio, highest=1.0
        ),
        _picture("99 % within", minutes, now, lambda minute: minute.p99, as_latency),
        _picture(
            "SELECTs avoided a second", minutes, now, lambda minute: minute.avoided_rate, _rate
        ),
    ]
    return f"<section><h2>The last hour</h2><div class=hour>{''.join(pictures)}</div></section>"


def fill(part: float) -> str:
    """Return a bar that is filled up to `part`, which may be 0 to 1."""
    width = round(min(max(part, 0.0), 1.0) * 100, 1)
    return (
        '<svg class=fill viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class=all width="100" height="8"/><rect class=part width="{width:g}" height="8"/>'
        "</svg>"
    )


def _picture(
    title: str,
    minutes: Sequence[Minute],
    now: float,
    value_of: Callable[[Minute], float | None],
    shown: Callable[[float | None], str],
    *,
    highest: float | None = None,
) -> str:
    values = [value_of(minute) for minute in minutes]
    known = [value for value in values if value is not None]
    most = max(known, default=None)
    scale = highest or most or 1.0
    curves = [
        _curve([(_across(minutes[place].when, now), _height(value, scale)) for place, value in run])
        for run in _runs(values)
    ]
    least = f" · lowest {shown(min(known, default=None))}" if highest else ""
    note = least or f" · highest {shown(most)}"
    label = f"{title}: {shown(values[-1])} in the last minute{note}"
    return (
        f"<figure><figcaption>{escape(title)} <b>{escape(shown(values[-1]))}</b></figcaption>"
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">'
        f'<path class=floor d="M0 {_FLOOR:g}H{WIDTH:g}"/>{"".join(curves)}</svg>'
        f"<p><span>1 h ago</span><span>{escape(note.removeprefix(' · '))}</span><span>now</span></p>"
        "</figure>"
    )


def _rate(rate: float | None) -> str:
    return NOTHING if rate is None else as_rate(rate)


def _runs(values: Sequence[float | None]) -> Iterator[list[tuple[int, float]]]:
    """Yield (place, value) of each run of known values: a gap in them is a gap in the picture."""
    run: list[tuple[int, float]] = []
    for place, value in enumerate(values):
        if value is not None:
            run.append((place, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _across(when: float, now: float) -> float:
    return WIDTH * (1 - min(max(now - when, 0.0), HOUR) / HOUR)


def _height(value: float, scale: float) -> float:
    return _FLOOR - (_FLOOR - _TOP) * min(value / scale, 1.0)


def _curve(points: Sequence[Point]) -> str:
    """Return the line through the points and the area below it; a lone point is a short line."""
    if len(points) == 1:
        x, y = points[0]
        points = [(max(x - WIDTH / 60, 0.0), y), (x, y)]
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    area = f"M{points[0][0]:.1f} {_FLOOR:g}L{line}L{points[-1][0]:.1f} {_FLOOR:g}Z"
    return f'<path class=area d="{area}"/><path class=line d="M{line}"/>'
