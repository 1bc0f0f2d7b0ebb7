"""What commands say goes through one door, so that no text from outside rewrites a terminal."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]

STYLED = {
    "output.py": 2,
    "query.py": 1,  # bytes, for programs
    "trace.py": 2,  # with colours
}


def test_commands_say_it() -> None:
    """Commands write by `say`; those few that write with colours, or bytes, are known."""
    found = {}
    for path in sorted((PROJECT / "daemon" / "mailmapd" / "cli").glob("*.py")):
        calls = len(re.findall(r"click\.s?echo\(", path.read_text("utf-8")))
        if calls:
            found[path.name] = calls
    assert found == STYLED
