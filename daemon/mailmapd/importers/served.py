"""The file at an import's output: the package's sample, which it replaces, or a configuration, which it adds to.

What Postfix asks already goes on under its name: a map is known by the .cf files of its tables,
which `postfix_cf` or the comment before a table names.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailmapd.formats.logical_lines import read_text
from mailmapd.importers.sections import IMPORTED, sections_of

_SAMPLE = "# mailmapd.toml: every key, with what it means"
"""First words of the sample that the package brings."""
_BEGINNING = 400  # characters


@dataclass(frozen=True, slots=True)
class ServedMap:
    """A map as it is served: the .cf files of its tables, and what an import writes besides."""

    files: tuple[str, ...]
    settings: Mapping[str, Any]


def served_maps(text: str, folder: Path) -> dict[str, ServedMap]:
    """Return the maps of a configuration whose tables all come from .cf files; none when it is no TOML."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}
    files: dict[str, str] = {}
    comments = {section.header: section.comment for section in sections_of(text)}
    for name, table in document.get("table", {}).items():
        origin = comments.get(f"table.{name}", "").partition("\n")[0].removeprefix("# ")
        file = str(folder / table["postfix_cf"]) if "postfix_cf" in table else origin
        if file.startswith("/"):
            files[name] = file
    return {
        name: ServedMap(tuple(files[table] for table in section["tables"]), _settings(section))
        for name, section in document.get("map", {}).items()
        if all(table in files for table in section.get("tables", ()))
    }


def _settings(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: section[key] for key in section.keys() & IMPORTED["map"] - {"tables"}}


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
