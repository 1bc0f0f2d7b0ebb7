from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.errors import ConfigError
from mailmapd.formats.dovecot_settings import read_settings


def values(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "file.conf.ext"
    path.write_text(text, encoding="utf-8")
    return {setting.key: setting.value for setting in read_settings(path, {"NAME": "from-env"})}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("k = plain value", "plain value"),
        ("k=no blanks", "no blanks"),
        ("\t k \t=\t value \t", "value"),
        ("k =", ""),
        ('k = "in double quotes"', "in double quotes"),
        ("k = 'in single quotes'", "in single quotes"),
        (r'k = "a \"b\" \\ c\d"', 'a "b" \\ cd'),
        (r"k = a \"b\" stays", r"a \"b\" stays"),
        ("k = SELECT 'a' AS b", "SELECT 'a' AS b"),
        ("k = 'a' AND b = 'c'", "a' AND b = 'c"),
        ("k = value # comment", "value"),
        ("k = value# comment", "value"),
        ("k = 'not # a comment' # comment", "not # a comment"),
        ("k = it's # no comment either", "it's # no comment either"),
        (r"k = 'a\'b # c' x # comment", r"'a\'b # c' x"),
        ("k = SELECT 1;", "SELECT 1;"),
        ("k = a = b = c", "a = b = c"),
        ("k = $ENV:NAME", "from-env"),
        ("k = a $ENV:NAME b$ENV:NAME $ENV:MISSING c", "a from-env b$ENV:NAME  c"),
        ("k = '$ENV:NAME'", "$ENV:NAME"),
        ("k = müller", "müller"),
        ("k = crlf\r", "crlf"),
        ("k = 1\nk = 2", "2"),
    ],
)
def test_value(tmp_path: Path, line: str, value: str) -> None:
    """A value is read as Dovecot reads it."""
    assert values(tmp_path, f"# head\n\n{line}\n")["k"] == value


def test_no_final_newline(tmp_path: Path) -> None:
    """The last line counts without its newline."""
    assert values(tmp_path, "a = 1\nb = 2") == {"a": "1", "b": "2"}


def test_continuation(tmp_path: Path) -> None:
    """A line that ends in a backslash is joined to the next by one blank.

    Comments and empty lines between are skipped.
    """
    text = "query = SELECT a, \\\n   b \\  \n# a comment\n\n  FROM t \\ # said here\n  WHERE x = 1\nother = 1\n"
    assert values(tmp_path, text) == {"query": "SELECT a, b FROM t WHERE x = 1", "other": "1"}


def test_unfinished_continuation_is_a_fault(tmp_path: Path) -> None:
    """A file that ends inside a continued line is refused, where Dovecot drops the setting without a word."""
    with pytest.raises(ConfigError, match="line 2: the file ends inside a continued line"):
        values(tmp_path, "a = 1\nquery = SELECT \\")


def test_not_a_setting_names_the_line(tmp_path: Path) -> None:
    """A section or a stray word is a fault at its line, and every such line is named."""
    with pytest.raises(ConfigError) as caught:
        values(tmp_path, "a = 1\npassdb {\n}\n")
    assert [fault.where for fault in caught.value.faults] == ["line 2", "line 3"]


def test_include(tmp_path: Path) -> None:
    """Included files are relative to the including file and count where they are included."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/one.conf").write_text("a = included\n!include two.conf\n")
    (tmp_path / "sub/two.conf").write_text("b = deeper\n")
    assert values(
        tmp_path, "a = first\n!include sub/one.conf\nc = 3\n!include_try missing.conf\n"
    ) == {
        "a": "included",
        "b": "deeper",
        "c": "3",
    }


def test_include_pattern_reads_the_last_file_first(tmp_path: Path) -> None:
    """Of several files that fit a pattern, Dovecot reads the last first, so the first decides."""
    (tmp_path / "x1.inc").write_text("a = 1\n")
    (tmp_path / "x2.inc").write_text("a = 2\n")
    assert values(tmp_path, "!include x*.inc\n") == {"a": "1"}


def test_missing_and_recursive_includes_are_faults(tmp_path: Path) -> None:
    """An include that cannot be read, or that includes itself, is named with its line."""
    with pytest.raises(ConfigError, match=r"line 1: !include nowhere\.conf: no such file"):
        values(tmp_path, "!include nowhere.conf\n")
    with pytest.raises(ConfigError, match=r"line 2: !include file\.conf\.ext: includes itself"):
        values(tmp_path, "\n!include file.conf.ext\n")


def test_unreadable_file_is_a_fault(tmp_path: Path) -> None:
    """A missing file is a fault that names it."""
    with pytest.raises(ConfigError, match="missing\\.conf: cannot be read: No such file"):
        read_settings(tmp_path / "missing.conf")
