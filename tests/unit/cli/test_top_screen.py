"""The screen of `top`, as a small terminal shows it."""

from __future__ import annotations

import pytest
from rich.console import Console

from mailmapd.cli.top_screen import screen
from support.busy_host import make_view

LINES, COLUMNS = 24, 80


def shown(*, bad: bool, lines: int = LINES) -> list[str]:
    """Return what stands on the screen."""
    view = make_view(bad=bad)
    console = Console(width=COLUMNS, height=lines)
    with console.capture() as capture:
        console.print(screen(view.snapshot, view.activity, view.members, lines))
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize("bad", [False, True])
def test_fits(bad: bool) -> None:
    """All of it fits, with a fleet as without, and no figure is cut."""
    lines = shown(bad=bad)
    assert len(lines) <= LINES
    assert all(len(line) <= COLUMNS for line in lines)
    fleet = lines[next(place for place, line in enumerate(lines) if line.startswith("HOST")) :]
    for words in ("HEARD OF", "QUERIES", "MEMORY", "LAST FLUSH", "PROVEN"):
        assert words in fleet[0]
    assert "5d0c1f2e" in fleet[2] + fleet[3]


def test_what_stands_out() -> None:
    """A host that is silent, asks something else or has not carried out the last flush comes first."""
    lines = shown(bad=True)
    assert any("fleet: Nothing was missed until 0 s ago." in line for line in lines)
    first = lines[next(place for place, line in enumerate(lines) if line.startswith("HOST")) + 2]
    for words in ("a-host", "1 h 3 m ago", "0f1e2d3c DIFFERS", "NOT YET"):
        assert words in first
    assert not any("NOT YET" in line for line in shown(bad=False))
