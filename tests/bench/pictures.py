"""The table as pictures: bars of mailmapd and its peer side by side, as SVG files that need no script and no font.

    write(document.parent / "pictures", read(document.read_text()))

They are drawn from the table in the page, so that the two cannot differ; dark and light follow the reader's choice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from bench.report import BEGIN, END, Line

_CELLS = re.compile(r"(?<!\\)\|")
_RATE = re.compile(r"(?:^|(?P<name>[^\d]+?): )?(?P<rate>\d[\d ]*)/s")
# Units: of a picture, left of its bars, right of its longest bar
_WIDTH, _LABEL, _RIGHT = 860, 290, 150
_BAR, _GAP, _HEAD = 13, 12, 44  # units: of a bar, between two pairs of bars, above the first one
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1c2024 }
.head { font-size: 15px; font-weight: 600 }
.soft { fill: #5b6570; font-size: 12px }
.ours { fill: #2563a8 }
.peer { fill: #b9c2cc }
@media (prefers-color-scheme: dark) {
  text { fill: #e6e9ec }
  .soft { fill: #9aa5b1 }
  .ours { fill: #7db4f0 }
  .peer { fill: #56616d }
}
"""


@dataclass(frozen=True)
class Chart:
    """A picture: its name and title, and which lines of the table are in it."""

    name: str
    title: str
    row: int
    without: tuple[str, ...] = ()
    said: tuple[str, ...] = ()  # words of the lines that the title says already


CHARTS = (
    Chart(
        "postmap",
        "postmap -q -, 100 000 keys: lookups a second",
        4,
        ("one core", "cdb", "lmdb", "echo_floor", "empty at first"),
    ),
    Chart(
        "recipients",
        "smtpd, database on the same host: recipients a second",
        5,
        ("one core", "no time"),
        ("RCPT TO, ",),
    ),
    Chart(
        "recipients-1ms",
        "smtpd, database 1 ms away: recipients a second",
        6,
        ("no time",),
        ("RCPT TO, ", ", 1 ms to the database"),
    ),
    Chart(
        "logins",
        "Dovecot: passwords and users a second",
        11,
        ("no time", "auth cache"),
        ("Dovecot ",),
    ),
)


@dataclass(frozen=True)
class Pair:
    """A comparison: a label, two rates a second, the table's ratio, and the peer's name."""

    label: str
    ours: float
    peer: float
    ratio: str
    name: str


def read(document: str) -> list[Line]:
    """Return the lines of the table between the marks of a page."""
    table = document.partition(BEGIN)[2].partition(END)[0]
    found = []
    for text in table.splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in _CELLS.split(text)[1:-1]]
        if len(cells) == 7 and cells[0].isdigit():
            row, what, ours, peer, ratio, target, _ = cells
            found.append(Line(int(row), what, ours, peer, ratio, target))
    return found


def pairs(lines: Iterable[Line], chart: Chart) -> list[Pair]:
    """Return what a chart compares: the lines of its row that have a rate on both sides."""
    found = []
    for line in lines:
        ours, peer = _RATE.search(line.ours), _RATE.search(line.peer)
        if line.row != chart.row or ours is None or peer is None:
            continue
        if any(word in line.what for word in chart.without) or peer["name"] == "static":
            continue
        label, _, against = line.what.rpartition(", against ")
        shown = line.what if not label else ""
        name = against if label else peer["name"] or "peer"
        found.append(
            Pair(_short(shown or name, chart), _number(ours), _number(peer), line.ratio, name)
        )
    return found


def draw(title: str, compared: Sequence[Pair]) -> str:
    """Return the picture."""
    scale = (_WIDTH - _LABEL - _RIGHT) / max(
        max(comparison.ours, comparison.peer) for comparison in compared
    )
    height = _HEAD + len(compared) * (2 * _BAR + _GAP) + 8
    parts = []
    for number, comparison in enumerate(compared):
        top = _HEAD + number * (2 * _BAR + _GAP)
        parts.append(
            f'<text x="{_LABEL - 10}" y="{top + 17}" text-anchor="end">{escape(comparison.label)}</text>'
        )
        factor = f" · ratio {comparison.ratio}" if comparison.ratio else ""
        peer = "" if comparison.name == comparison.label else f" {comparison.name}"
        parts += _bar("ours", top, comparison.ours * scale, f"{_shown(comparison.ours)}{factor}")
        parts += _bar(
            "peer", top + _BAR, comparison.peer * scale, f"{_shown(comparison.peer)}{peer}"
        )
    described = "; ".join(
        f"{comparison.label}: mailmapd {_shown(comparison.ours)}, {comparison.name} {_shown(comparison.peer)}"
        for comparison in compared
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">\n'
        f"<title>{escape(title)}</title>\n<desc>{escape(described)}</desc>\n<style>{_STYLE}</style>\n"
        f'<text class="head" x="10" y="24">{escape(title)}</text>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _bar(kind: str, top: float, width: float, note: str) -> list[str]:
    return [
        f'<rect class="{kind}" x="{_LABEL}" y="{top}" width="{max(width, 1):.1f}" height="{_BAR - 1}" rx="2"/>',
        f'<text class="soft" x="{_LABEL + width + 6:.1f}" y="{top + 10.5}">{escape(note)}</text>',
    ]


def pictures(lines: Sequence[Line]) -> dict[str, str]:
    """Return every picture that the table has figures for, by the name of its file."""
    drawn = {}
    for chart in CHARTS:
        if compared := pairs(lines, chart):
            drawn[f"performance-{chart.name}.svg"] = draw(chart.title, compared)
    return drawn


def write(folder: Path, lines: Sequence[Line]) -> None:
    """Write the pictures into a folder."""
    folder.mkdir(exist_ok=True)
    for name, text in pictures(lines).items():
        (folder / name).write_text(text, encoding="utf-8")


def _number(match: re.Match[str]) -> float:
    return float(match["rate"].replace(" ", ""))


def _shown(rate: float) -> str:
    return f"{rate:,.0f}".replace(",", " ")


def _short(what: str, chart: Chart) -> str:
    """Return what a line says without what the title says already."""
    for words in chart.said:
        what = what.replace(words, "")
    return what
