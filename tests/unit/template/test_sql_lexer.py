"""Where a piece of SQL stands for the server's lexer."""

from __future__ import annotations

import pytest

from mailmapd.errors import TemplateError
from mailmapd.template.sql_lexer import Place, code_of, layout, only_reads, without_comments


def where(query: str, *, sqlite: bool = False) -> list[Place]:
    """Return the places of the variables, which are written as ?."""
    pieces: list[str | None] = []
    for text in query.split("?"):
        pieces += [text, None]
    return list(layout(pieces[:-1], sqlite=sqlite).places)


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("id = ?", Place.CODE),
        ("a = '?'", Place.SINGLE),
        ('a = "?"', Place.DOUBLE),
        ("FROM `?`", Place.NAME),
        ("a = 'it''s ?'", Place.SINGLE),
        ("a = 'it''s' AND id = ?", Place.CODE),
        ("a = `it``s` AND id = ?", Place.CODE),
        ("a = '\\\\' AND id = ?", Place.CODE),
        ("a = '\"' AND id = ?", Place.CODE),
        ("a = '/*' AND id = ?", Place.CODE),
        ("a = '-- ' AND id = ?", Place.CODE),
        ("/* don't */ id = ?", Place.CODE),
        ("-- don't\nid = ?", Place.CODE),
        ("# don't\nid = ?", Place.CODE),
        ("--\tdon't\nid = ?", Place.CODE),
        ("1--'?'", Place.SINGLE),
        ("/* don't */ a = '?'", Place.SINGLE),
        ("/* for ? */", Place.COMMENT),
        ("/* a /* b */ '?'", Place.SINGLE),
        ("-- for ?", Place.LINE_COMMENT),
        ("/*!40001 SQL_NO_CACHE */ a = '?'", Place.SINGLE),
        ("/*+ MAX_EXECUTION_TIME(1) */ a = '?'", Place.SINGLE),
        ("a = X'41' AND b = _utf8'?'", Place.SINGLE),
    ],
)
def test_place(query: str, place: Place) -> None:
    """Strings, names and comments are told apart as the server does, and an apostrophe in a comment opens nothing."""
    assert where(query) == [place]


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("a = '\\' AND id = ?", Place.CODE),
        ("--don't\nid = ?", Place.CODE),
        ("[don't] = ?", Place.CODE),
        ("[a?]", Place.BRACKET),
        ("1 # 'x' ?", Place.CODE),
    ],
)
def test_place_for_sqlite(query: str, place: Place) -> None:
    """SQLite knows no backslash, no number sign and no white space behind dashes, but names in brackets."""
    assert where(query, sqlite=True) == [place]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("a = '\\?'", "behind a backslash"),
        ('a = "\\?"', "behind a backslash"),
        ("--?", "behind -"),
        ("/* *?/", r"behind \*"),
        ("a -?- 1", "could be a comment"),
        ("1 /?* x */", "could be a comment"),
        ("/*!50000 ? */", "some servers read as SQL"),
        ("/*M!100100 don't */ a = '?'", "some servers read as SQL"),
        ("/*!50000 /* x */ */ a = '?'", "some servers read as SQL"),
        ('a = "\\"" AND b = \'?\' OR "', "ANSI_QUOTES"),
    ],
)
def test_a_query_that_could_mean_something_else(query: str, reason: str) -> None:
    """A variable whose place depends on the value, the server's version or ANSI_QUOTES is refused."""
    with pytest.raises(TemplateError, match=reason):
        where(query)


def test_the_mode_without_backslashes() -> None:
    """A query whose strings end elsewhere in NO_BACKSLASH_ESCAPES says so."""
    assert layout(["a = 'it\\'s ", None, "'"]).needs_backslashes
    assert not layout(["a = 'it''s ", None, "'"]).needs_backslashes
    assert not layout(["a = '\\\\' AND b = '", None, "'"]).needs_backslashes


def test_code() -> None:
    """What is left without strings and comments is the SQL words alone."""
    text = (
        "SELECT /* NOW() */ a, 'NOW()' -- RAND()\nFROM `t` WHERE \"x''\" = /*!1 UUID() */ 1 # it's"
    )
    assert code_of(text) == "SELECT   a, ''  FROM `t` WHERE \"\" =   UUID()   1  "
    assert without_comments("a /* 'b' */ = 'c /* d */'") == "a   = 'c /* d */'"


@pytest.mark.parametrize(
    ("query", "reads"),
    [
        ("SELECT a FROM b WHERE c = '%s'", True),
        (" select COUNT(*), CONCAT(a, '@', b) FROM t WHERE x IN ('a') AND (y = 1);", True),
        ("(SELECT a FROM b) UNION ALL (SELECT c FROM d)", True),
        ("WITH r AS (SELECT 1) SELECT * FROM r", True),
        ("-- all\nSELECT 'f(x)' /* g() */", True),
        ("CALL find('%s')", False),
        ("/* SELECT */ CALL find('%s')", False),
        ("SELECT counted('%s')", False),
        ("SELECT mail.counted('%s')", False),
        ("SELECT `lower`('%s')", False),
        ("SELECT a INTO OUTFILE '/tmp/x' FROM b", False),
        ("INSERT INTO a SELECT 1", False),
        ("", False),
    ],
)
def test_only_reads(query: str, reads: bool) -> None:
    """A SELECT with functions of the server alone can be repeated; whatever might write is not known to."""
    assert only_reads(query) is reads


def test_comments_for_some_servers() -> None:
    """What only some servers read as SQL counts as SQL where somebody asks what a query may do."""
    hidden = "SELECT a FROM t WHERE k = '%s' /*!50000 INTO OUTFILE '/tmp/x' */"
    assert "INTO OUTFILE" in code_of(hidden)
    assert not only_reads(hidden)
    assert code_of("SELECT 1 /* INTO */") == "SELECT 1  "
