"""The picture of the rooms, and the page that goes through them, are those of the package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "architecture.md"


def test_the_picture_is_up_to_date(tmp_path: Path) -> None:
    """docs/pictures/rooms.svg is drawn from the layers that import-linter checks; scripts/rooms draws it."""
    drawn = tmp_path / "rooms.svg"
    subprocess.run([sys.executable, PROJECT / "scripts" / "rooms", drawn], check=True)
    assert drawn.read_text() == (PROJECT / "docs" / "pictures" / "rooms.svg").read_text()


def test_every_room_is_on_the_page() -> None:
    """Each room has its line in the table of contents, and no line is about one that is gone."""
    rows = re.findall(r"^\| `(\w+)/?` \|", PAGE.read_text(), re.MULTILINE)
    package = PROJECT / "daemon" / "mailmapd"
    packages = {path.parent.name for path in package.glob("*/__init__.py")}
    rooms = packages | {path.stem for path in package.glob("[a-z]*.py")}
    assert set(rows) == rooms


def test_modules_on_the_page_exist() -> None:
    """Every file that a walk names is there."""
    package = PROJECT / "daemon" / "mailmapd"
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)+\.py)`", PAGE.read_text()))
    assert named
    assert [name for name in sorted(named) if not (package / name).is_file()] == []


def test_each_step_names_its_room() -> None:
    """Every step of the three walks begins with the room in which it happens."""
    package = PROJECT / "daemon" / "mailmapd"
    steps = re.findall(r"^\d+\. (.*)$", PAGE.read_text(), re.MULTILINE)
    assert len(steps) > 10
    rooms = [re.match(r"\*(\w+)\*: ", step) for step in steps]
    assert [step for step, room in zip(steps, rooms, strict=True) if room is None] == []
    assert all((package / room[1]).is_dir() for room in rooms if room is not None)
