"""The file at an import's output: the package's sample, which it replaces, or a configuration, which it adds to."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from mailmapd.formats.logical_lines import read_text

_SAMPLE = "# mailmapd.toml: every key, with what it means"
"""First words of the sample that the package brings."""
_BEGINNING = 400  # characters


def is_to_be_kept(text: str, postfix: Path) -> bool:
    """Return whether the configuration may be in use.

    The sample is not, unless Postfix asks for one of its maps: somebody has made it their own then.
    """
    return _SAMPLE not in text[:_BEGINNING] or bool(asked_maps(text, postfix))


def asked_maps(text: str, postfix: Path) -> list[str]:
    """Return the configuration's maps that main.cf or master.cf ask for, in order."""
    try:
        names = list(tomllib.loads(text).get("map", {}))
    except tomllib.TOMLDecodeError:
        return []
    files = [postfix / name for name in ("main.cf", "master.cf")]
    lines = "\n".join(read_text(file) for file in files if file.exists())
    return [
        name
        for name in names
        if re.search(rf"socketmap:[^\s,{{}}]+:{re.escape(name)}(?![\w.-])", lines)
    ]
