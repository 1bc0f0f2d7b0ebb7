r"""A lexer that knows where a piece of SQL text stands: in a string, in a name, in a comment, or in none of them.

Everybody who reads SQL text asks here, so that a query means the same to all of them.

    'it''s \'x\''    a string; a quote is doubled, or has a backslash (none of that in SQL mode NO_BACKSLASH_ESCAPES)
    "x"              the same; with ANSI_QUOTES it is a name, in which no backslash counts
    `na``me`         a name; no backslash counts
    -- x             a comment to the end of the line; the white space behind the two dashes is needed
    # x              the same, without it
    /* x */          a comment; the first end counts
    /*! x */ /*M! x */   SQL for some versions of the server, and a comment for the others

SQLite has no backslashes and no `#`, needs no space behind `--`, and takes [x] for a name. See MySQL's
manual, "Lexical Structure", and "SQLite Keywords".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from mailmapd.errors import TemplateError


class Place(StrEnum):
    """The surroundings of a byte of SQL text, named by their opening."""

    CODE = ""
    SINGLE = "'"
    DOUBLE = '"'
    NAME = "`"
    BRACKET = "["
    LINE_COMMENT = "--"
    COMMENT = "/*"

    @property
    def is_string(self) -> bool:
        """Tell whether quoting protects a value here."""
        return self in (Place.SINGLE, Place.DOUBLE)

    @property
    def is_comment(self) -> bool:
        """Tell whether the server passes over it."""
        return self in (Place.LINE_COMMENT, Place.COMMENT)


@dataclass(frozen=True, slots=True)
class Rules:
    """The way in which one server reads: its SQL mode, or SQLite's."""

    backslashes: bool = True
    ansi_quotes: bool = False
    sqlite: bool = False


DEFAULT = Rules()
"""MySQL and MariaDB without special modes."""

SQLITE = Rules(backslashes=False, sqlite=True)

_OPENING = {
    False: re.compile(r"['\"`]|--(?=[\x00-\x20\x7f]|\Z)|#|/\*(M?!)?"),
    True: re.compile(r"['\"`\[]|--|/\*"),
}
_PLACES = {place.value: place for place in Place} | {"#": Place.LINE_COMMENT}
_CLOSING = {
    Place.SINGLE: "'",
    Place.DOUBLE: '"',
    Place.NAME: "`",
    Place.BRACKET: "]",
    Place.LINE_COMMENT: "\n",
    Place.COMMENT: "*/",
}
_ENDS = {
    (place, escapes): re.compile(re.escape(closing) + (r"|\\" if escapes else ""))
    for place, closing in _CLOSING.items()
    for escapes in (False, True)
}
"""Ends of a place: its closing, and a backslash where that counts."""

_DOUBLED = (Place.SINGLE, Place.DOUBLE, Place.NAME)
_UNFINISHED = {Place.LINE_COMMENT: ("--",), Place.COMMENT: ("*",)}
"""Ends of a piece that may turn into something else with the next byte."""

_ACROSS_NOTHING = ("--", "/*")
"""Openings that two texts make when the value between them is empty."""


class SqlLexer:
    """Reads SQL text piece by piece. `place` is where it stands now.

    `unclear` says why a server may read the text otherwise than this does; empty while there is no such reason.
    """

    def __init__(self, rules: Rules = DEFAULT) -> None:
        self.place = Place.CODE
        self.unclear = ""
        self._rules = rules

    def read(self, text: str) -> Iterator[tuple[Place, str]]:
        """Yield the parts of a piece, each with where it stands; what opens and closes belongs to what is inside."""
        at = 0
        while at < len(text):
            if self.place is Place.CODE:
                end, opened, opening = self._read_code(text, at)
                if end > at:
                    yield Place.CODE, text[at:end]
                if opening.endswith("!") and (behind := self._skip_conditional(text, end, opening)):
                    yield Place.COMMENT, opening
                    yield Place.CODE, text[end + len(opening) : behind - 2].lstrip("0123456789")
                    yield Place.COMMENT, "*/"
                    at = behind
                    continue
                at, self.place = end, opened
                start = at + len(opening)
            else:
                start = at
            if self.place is not Place.CODE:
                inside = self.place
                end = self._end(text, start)
                yield inside, text[at:end]
                at = end

    def finish_piece(self, text: str) -> None:
        """Note whether the end of a piece may change its meaning by what follows it."""
        if text.endswith(_UNFINISHED.get(self.place, ())):
            self.unclear = f"a variable directly behind {text[-1]}"
        if self._escapes() and (len(text) - len(text.rstrip("\\"))) % 2:
            self.unclear = "a variable directly behind a backslash"

    def _read_code(self, text: str, at: int) -> tuple[int, Place, str]:
        """Return where code ends, and what opens there."""
        found = _OPENING[self._rules.sqlite].search(text, at)
        if found is None:
            return len(text), Place.CODE, ""
        return found.start(), _PLACES[found[0].rstrip("M!")], found[0]

    def _skip_conditional(self, text: str, at: int, opening: str) -> int:
        """Return where a conditional comment ends for every server, or 0, and note that, when some would differ."""
        inside, end, _ = text[at + len(opening) :].partition("*/")
        if end and not _OPENING[False].search(inside):
            return at + len(opening) + len(inside) + len(end)
        self.unclear = f"a comment that some servers read as SQL ({opening} … */), with quotes or a variable in it"
        return 0

    def _end(self, text: str, at: int) -> int:
        """Return where the open string, name or comment ends in this piece, and note what is open there."""
        closing = _CLOSING[self.place]
        ends = _ENDS[self.place, self._escapes()]
        while found := ends.search(text, at):
            at = found.end()
            if found[0] == closing and not (
                self.place in _DOUBLED and text.startswith(closing, at)
            ):
                self.place = Place.CODE
                return at
            at += 1
        return len(text)

    def _escapes(self) -> bool:
        """Tell whether a backslash counts where we stand."""
        single = self.place is Place.SINGLE
        double = self.place is Place.DOUBLE and not self._rules.ansi_quotes
        return self._rules.backslashes and (single or double)


class Layout(NamedTuple):
    """The places of a query's variables; `needs_backslashes` says: not so in SQL mode NO_BACKSLASH_ESCAPES."""

    places: tuple[Place, ...]
    needs_backslashes: bool = False


def layout(pieces: Sequence[str | None], *, sqlite: bool = False) -> Layout:
    """Return where each variable of a query stands; None is a variable in `pieces`, a text the SQL around it.

    Raises TemplateError for a query in which that depends on the server's version, on ANSI_QUOTES (of
    which a session says nothing), or on the value itself.
    """
    if sqlite:
        return Layout(_places(pieces, SQLITE))
    found = _places(pieces, DEFAULT)
    if _places(pieces, Rules(ansi_quotes=True)) != found:
        raise TemplateError(
            "it depends on the server's SQL mode ANSI_QUOTES where its strings end; write a double "
            "quote inside double quotes twice, without a backslash"
        )
    return Layout(found, _places(pieces, Rules(backslashes=False)) != found)


def _places(pieces: Sequence[str | None], rules: Rules) -> tuple[Place, ...]:
    lexer = SqlLexer(rules)
    found = []
    tail = ""
    for piece in pieces:
        if piece is None:
            found.append(lexer.place)
            if lexer.unclear:
                raise TemplateError(f"{lexer.unclear}: a value could change the query")
            continue
        if lexer.place is Place.CODE and tail + piece[:1] in _ACROSS_NOTHING:
            raise TemplateError(
                f"a variable between {tail} and {piece[0]}: they could be a comment"
            )
        for _ in lexer.read(piece):
            pass
        lexer.finish_piece(piece)
        tail = piece[-1:]
    return tuple(found)


def code_of(text: str, *, sqlite: bool = False) -> str:
    """Return a query with its strings emptied and its comments blank: what is left is SQL words.

    A comment that some servers read as SQL is SQL.
    """
    shown = []
    for place, part in SqlLexer(SQLITE if sqlite else DEFAULT).read(text):
        if place.is_string:
            shown.append(place.value * 2)
        elif place.is_comment:
            conditional = None if sqlite else _CONDITIONAL.fullmatch(part)
            shown.append(f" {code_of(conditional[1])} " if conditional else " ")
        else:
            shown.append(part)
    return "".join(shown)


_CONDITIONAL = re.compile(r"/\*M?!\d*(.+?)(?:\*/)?", re.DOTALL)


def depends_on_version(text: str) -> bool:
    """Return whether a query has a comment that some servers read as SQL."""
    return any(
        place is Place.COMMENT and part.startswith(("/*!", "/*M!"))
        for place, part in SqlLexer().read(text)
    )


def only_reads(text: str, *, sqlite: bool = False) -> bool:
    """Tell whether a query can change nothing: a SELECT that calls no function but well-known ones of the server.

    Any other function may be a stored one, and those may write.
    """
    code = code_of(text, sqlite=sqlite)
    words = _WORD.findall(code.upper())
    if not words or words[0] not in ("SELECT", "WITH", "VALUES", "TABLE"):
        return False
    called = {name.upper() for name in _CALLED.findall(code)}
    return called <= _BUILT_IN and "INTO" not in words and ";" not in code.rstrip().rstrip(";")


_WORD = re.compile(r"[A-Z_]\w*")
_CALLED = re.compile(r"([\w$.`]+)\s*\(")
_BUILT_IN = frozenset(
    _WORD.findall(
        "ALL AND ANY AS BETWEEN BY CASE DISTINCT ELSE EXCEPT EXISTS FROM HAVING IN INTERSECT IS JOIN LIKE NOT ON OR "
        "REGEXP RLIKE SELECT SOME THEN UNION USING VALUES WHEN WHERE XOR "
        "ABS ASCII AVG CAST CEIL CHAR CHARACTER_LENGTH CHAR_LENGTH COALESCE CONCAT CONCAT_WS CONVERT COUNT CURDATE "
        "CURRENT_DATE CURRENT_TIMESTAMP DATE DATE_ADD DATE_FORMAT DATE_SUB DATEDIFF ELT FIELD FIND_IN_SET FLOOR FORMAT "
        "FROM_BASE64 FROM_UNIXTIME GREATEST GROUP_CONCAT HEX IF IFNULL INET_ATON INET_NTOA INSTR ISNULL JSON_CONTAINS "
        "JSON_EXTRACT JSON_UNQUOTE JSON_VALUE LCASE LEAST LEFT LENGTH LOCATE LOWER LPAD LTRIM MAX MD5 MID MIN MOD NOW "
        "NULLIF OCTET_LENGTH POSITION REGEXP_REPLACE REGEXP_SUBSTR REPEAT REPLACE REVERSE RIGHT ROUND RPAD RTRIM SHA "
        "SHA1 SHA2 SPACE STRCMP SUBSTR SUBSTRING SUBSTRING_INDEX SUM TIMESTAMPDIFF TO_BASE64 TRIM UCASE UNHEX "
        "UNIX_TIMESTAMP UPPER UTC_TIMESTAMP"
    )
)


def without_comments(text: str, *, sqlite: bool = False) -> str:
    """Return a query with a blank for each comment."""
    parts = SqlLexer(SQLITE if sqlite else DEFAULT).read(text)
    return "".join([" " if place.is_comment else part for place, part in parts])
