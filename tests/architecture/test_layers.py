"""The layers of the package, as import-linter reads them from pyproject.toml."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2]
FEW = 25  # lines


def test_imports_point_down() -> None:
    """Every contract of import-linter holds, and every module has a layer."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_layers_name_only_modules_that_exist() -> None:
    """No layer is a leftover of a module that is gone; those in parentheses may still come."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    [layers] = [
        contract["layers"]
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    ]
    names = [
        name.strip()
        for layer in layers
        for name in layer.replace("|", ":").split(":")
        if "(" not in name
    ]
    package = PROJECT / "daemon" / "mailmapd"
    assert [
        name
        for name in names
        if not (package / name).is_dir() and not (package / f"{name}.py").is_file()
    ] == []


def test_one_reader_of_sql_text() -> None:
    """Where strings and comments of SQL begin and end is known in one file; the others ask there."""
    package = PROJECT / "daemon" / "mailmapd"
    knowing = [path for path in package.rglob("*.py") if r"/\*" in path.read_text("utf-8")]
    assert knowing == [package / "template" / "sql_lexer.py"]


def test_no_file_of_a_dozen_lines_has_one_user() -> None:
    """A file of a few lines that one other file needs is a part of that one; a command is a file of its own."""
    package = PROJECT / "daemon" / "mailmapd"
    sources = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts): path.read_text("utf-8")
        for path in package.rglob("*.py")
    }
    users: dict[str, set[str]] = {name: set() for name in sources}
    for user, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module in users:
                users[node.module].add(user)
    small = [
        name
        for name, source in sources.items()
        if source.count("\n") < FEW and not name.endswith("__")
    ]
    parts = [name for name in small if len(users[name]) == 1 and ".cli." not in name]
    # What a package gives under its own name has more users than that
    assert [name for name in parts if not min(users[name]).endswith(".__init__")] == []
