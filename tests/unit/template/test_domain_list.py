from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.errors import TemplateError
from mailmapd.template.domain_list import matching_domains


@pytest.mark.parametrize(
    ("patterns", "matching"),
    [
        (
            ["example.com, Example.NET\texample.org"],
            {b"example.com", b"example.net", b"example.org"},
        ),
        (["example.com", "example.net"], {b"example.com", b"example.net"}),
        (["!example.com example.com example.net"], {b"example.net"}),
        (["example.com !example.com"], {b"example.com"}),
        (["!!example.com"], {b"example.com"}),
        (["BÜCHER.de"], {"bücher.de".encode()}),
        (["example.com # example.net"], {b"example.com"}),
        (["[x:y]"], {b"[x:y]"}),
        ([","], set()),
    ],
)
def test_the_first_pattern_that_matches_decides(patterns: list[str], matching: set[bytes]) -> None:
    """Patterns are compared in order, folded, and '!' turns one around."""
    assert matching_domains(patterns) == frozenset(matching)


@pytest.mark.parametrize("patterns", [[], [""], ["", ""]])
def test_an_empty_list_lets_every_key_pass(patterns: list[str]) -> None:
    """Without a list there is no restriction."""
    assert matching_domains(patterns) is None


def test_files_stand_for_their_patterns(tmp_path: Path) -> None:
    """A file's patterns count where it is named; '!' before the file turns each around; lines with # are comments."""
    inner = tmp_path / "inner"
    inner.write_text("c.example\n")
    outer = tmp_path / "outer"
    outer.write_text(f"# none.example\na.example, !b.example\n\n {inner}\n")
    assert matching_domains([str(outer)]) == frozenset({b"a.example", b"c.example"})
    assert matching_domains([f"!{outer} a.example b.example x.example"]) == frozenset(
        {b"b.example", b"x.example"}
    )


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("a.example, !", "nothing after '!'"),
        ("hash:/etc/postfix/domains", "lookup table 'hash:/etc/postfix/domains' is not supported"),
        ("!static:x", "not supported"),
        ("/no/such/file", "cannot read /no/such/file: No such file"),
    ],
)
def test_what_cannot_be_a_pattern_is_named(pattern: str, text: str) -> None:
    """A pattern that Postfix refuses, a table and an unreadable file are errors which name it."""
    with pytest.raises(TemplateError, match=text):
        matching_domains([pattern])


def test_a_file_that_names_itself_is_named(tmp_path: Path) -> None:
    """Files that name each other end in an error, not in a recursion."""
    file = tmp_path / "loop"
    file.write_text(str(file))
    with pytest.raises(TemplateError, match="names itself"):
        matching_domains([str(file)])
