"""The table of what can go wrong in a fleet, and the tests of it, are in step."""

from __future__ import annotations

import ast
import re

import pytest

from support.guide import LANGUAGES, PROJECT, page

TESTS = PROJECT / "tests" / "integration" / "cluster"
ROW = re.compile(r"^\| (?!---)([^|]+) \| ([^|]+) \| ([^|]*`test_[^|]*) \|$", re.MULTILINE)


def named_tests(pattern: str) -> set[str]:
    """Return the names of all tests in these files."""
    return {
        node.name
        for path in TESTS.glob(pattern)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def table(language: str) -> list[str]:
    """Return the rows of the page's table of failures."""
    text = page("fleet", language)
    found = next(part for part in text.split("\n\n") if "`test_server_away`" in part)
    return found.splitlines()[2:]


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_failure_names_a_test(language: str) -> None:
    """Each row names tests, and each of them exists."""
    for row in table(language):
        match = ROW.fullmatch(row)
        assert match, row
        assert set(re.findall(r"`(\w+)`", match[3])) <= named_tests("test_*.py"), row


def test_each_test_of_a_failure_is_named() -> None:
    """What is tested in test_failures.py and test_failover.py stands in the table."""
    named = set(re.findall(r"`(test_\w+)`", "\n".join(table("en"))))
    assert named_tests("test_fail*.py") <= named


def test_both_languages_name_the_same() -> None:
    """Row by row, both languages name the same tests."""
    english, chinese = (
        [re.findall(r"`(test_\w+)`", row) for row in table(language)] for language in LANGUAGES
    )
    assert english == chinese
