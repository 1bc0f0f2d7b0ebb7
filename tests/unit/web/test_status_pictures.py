from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from mailmapd.stats.history import Minute
from mailmapd.web.status_pictures import HEIGHT, WIDTH, fill, hour


def minutes(rates: list[float], shares: list[float | None] | None = None) -> list[Minute]:
    """Minutes that end at the moment 3600."""
    first = 3600.0 - 60.0 * (len(rates) - 1)
    known = shares or [0.9] * len(rates)
    return [
        Minute(first + 60.0 * place, rate, share, None if share is None else 0.0001, rate * 2)
        for place, (rate, share) in enumerate(zip(rates, known, strict=True))
    ]


def drawings(html: str) -> list[ET.Element]:
    """The pictures of the section, each parsed as XML (class names without quotes are HTML's)."""
    found = re.findall(r"<svg .*?</svg>", html, re.DOTALL)
    return [ET.fromstring(re.sub(r"class=(\w+)", r'class="\1"', picture)) for picture in found]  # noqa: S314 (our own text)


def points(path: str) -> list[tuple[float, float]]:
    """The points of a path."""
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)]


def test_four_pictures_with_words() -> None:
    """Lookups, share from memory, p99 and spared SELECTs are pictures, each with its last figure and a description."""
    html = hour(minutes([10.0, 40.0, 20.0]), 3600.0)
    assert len(drawings(html)) == 4
    for words in ("Lookups a second", "From memory", "99 % within", "SELECTs avoided"):
        assert words in html
    assert 'aria-label="Lookups a second: 20.0 in the last minute · highest 40.0"' in html
    assert 'aria-label="From memory: 90.0 % in the last minute · lowest 90.0 %"' in html


def test_points_stay_in_the_picture() -> None:
    """The newest minute is at the right edge, the highest value at the top, and nothing lies outside."""
    [rates, *_] = drawings(hour(minutes([0.0, 40.0, 20.0]), 3600.0))
    [line] = [element for element in rates if element.get("class") == "line"]
    drawn = points(line.get("d", ""))
    assert drawn[-1][0] == WIDTH
    assert min(drawn, key=lambda point: point[1]) == drawn[1]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in drawn)


def test_silence_is_a_gap() -> None:
    """Minutes in which nothing was asked leave a gap in the share from memory."""
    html = hour(minutes([1.0, 0.0, 1.0], [0.5, None, 1.0]), 3600.0)
    shares = drawings(html)[1]
    assert len([element for element in shares if element.get("class") == "line"]) == 2


def test_nothing_from_elsewhere() -> None:
    """No script, style, link or font is in the pictures: the page's policy would refuse them."""
    html = hour(minutes([1.0, 2.0]), 3600.0)
    for word in ("<script", "style=", "href", "url(", "http"):
        assert word not in html


def test_before_the_first_minute() -> None:
    """A daemon that has just started says that there is nothing to draw yet."""
    assert "<svg" not in hour([], 3600.0)
    assert "first minute" in hour([], 3600.0)


@pytest.mark.parametrize(("part", "width"), [(0.0, "0"), (0.5, "50"), (1.0, "100"), (3.0, "100")])
def test_fill(part: float, width: str) -> None:
    """A bar shows the part of the limit that is used, and never more than all."""
    [bar] = drawings(fill(part))
    assert [element.get("width") for element in bar if element.get("class") == "part"] == [width]
