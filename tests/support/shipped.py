"""The shipped configuration files, as an administrator would take them over.

Read, uncommented, moved to a test's own paths.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

CONFIGS = Path(__file__).parents[2] / "configs"


def shipped(name: str, moved: Mapping[str, str] | None = None) -> str:
    """Return the text of configs/`name`; `moved` maps texts that must be in it to what a test needs in their place."""
    text = (CONFIGS / name).read_text()
    for old, new in (moved or {}).items():
        assert old in text, f"configs/{name} does not hold {old}"
        text = text.replace(old, new)
    return text


def uncommented(text: str, *starts: str) -> str:
    """Return a TOML text with the comment sign taken from every line that begins with ``#`` and one of `starts`."""
    for start in starts:
        text, count = re.subn(rf"^#(?={re.escape(start)})", "", text, flags=re.MULTILINE)
        assert count, f"no line begins with #{start}"
    return text


def settings(text: str) -> dict[str, str]:
    """Return the parameters of a main.cf."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {
        name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)
    }
