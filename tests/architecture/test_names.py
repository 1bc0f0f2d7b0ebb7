"""One word a thing: names that say nothing, and things that have two names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "daemon" / "mailmapd"


def _trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text("utf-8"))


def test_one_name_for_the_logger() -> None:
    """A file's logger is called `log`."""
    others = []
    for file, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                called = node.value.func
                if isinstance(called, ast.Attribute) and called.attr == "getLogger":
                    others += [
                        f"{file}:{node.lineno}" for t in node.targets if ast.unparse(t) != "log"
                    ]
    assert others == []


def test_sections_of_the_file_are_called_so() -> None:
    """The classes of the configuration's sections end in `Section`, so that Table, Map, Dict and Plan exist once."""
    classes: dict[str, list[str]] = {}
    for file, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, []).append(file)
    for name in ("Table", "Map", "Dict", "Plan"):
        assert len(classes[name]) == 1, (name, classes[name])
    schema = ast.parse((PACKAGE / "config" / "schema.py").read_text("utf-8"))
    sections = {node.name for node in schema.body if isinstance(node, ast.ClassDef)}
    assert {name for name in sections if not name.endswith("Section")} <= {
        *("Config", "ListenAddress", "Mode", "Seconds", "Size"),  # values, not sections
    }
