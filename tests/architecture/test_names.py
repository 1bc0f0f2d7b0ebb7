"""One word a thing: names that say nothing, and things that have two names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_CLAUSE = re.compile(r"(What|How|Whether|Which|When|Why|Where|Who|Whoever|Whose|Whatever)\b")

_ONE = re.compile(r"\bone(\)|,|:| =| in )")  # as it stands where something is bound to it
PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "daemon" / "mailmapd"


@cache
def _trees() -> list[tuple[str, ast.Module]]:
    """Return the package's files, parsed."""
    return [
        (str(path.relative_to(PACKAGE)), ast.parse(path.read_text("utf-8")))
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def _all_texts() -> Iterator[tuple[str, str]]:
    """Yield the files of package, tests and scripts that are Python."""
    for path in sorted([*PACKAGE.rglob("*.py"), *(PROJECT / "tests").rglob("*.py")]):
        yield str(path.relative_to(PROJECT)), path.read_text("utf-8")
    for path in sorted((PROJECT / "scripts").iterdir()):
        text = path.read_text("utf-8")
        if "python" in text.partition("\n")[0]:
            yield str(path.relative_to(PROJECT)), text


def _bound(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every name that something is bound to, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno


def test_no_thing_is_called_one() -> None:
    """A name says what the thing is; `one` stands beside `other` alone, where two equals are compared."""
    nameless = []
    for file, text in _all_texts():
        if not _ONE.search(text):
            continue  # to parse all of them takes seconds
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            names = dict(_bound(node))
            if "one" in names and "other" not in names:
                nameless.append(f"{file}:{names['one']}: {node.name}")
    assert nameless == []


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
        *("Lines", "Secret", "FileName", "SecretFile", "FileWithSecret"),
    }


def test_docstrings_name_the_thing() -> None:
    """A docstring begins with a verb or with the thing, not with a clause about it, and numbers are not "so many"."""
    wrong = []
    for file, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                text = node.value.value
                if isinstance(text, str) and (_CLAUSE.match(text) or "so many" in text.lower()):
                    wrong.append(f"{file}:{node.lineno}: {text.splitlines()[0]}")
    assert wrong == []


def test_docstrings_of_functions_begin_with_a_verb() -> None:
    """A function's docstring says what it does, a property's what it returns."""
    nouns = re.compile(r"(The|A|An|Every|All|Its|No)\b")
    wrong = [
        f"{file}:{node.lineno}: {node.name}"
        for file, tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and nouns.match(ast.get_docstring(node) or "")
    ]
    assert wrong == []
