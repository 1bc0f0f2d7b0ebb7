"""The layers of the package, as import-linter reads them from pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2]


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
