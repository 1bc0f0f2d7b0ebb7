"""Statements: one SQL query, ready but for the quoting that only a connection can do.

A statement keeps the template's literal text and the values that go between apart, because how a
value must be escaped depends on the connection that will run it: its character set, and whether the
server's SQL mode has NO_BACKSLASH_ESCAPES.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from mailmapd.errors import DataError
from mailmapd.template.sql_lexer import Place, SqlLexer

Quote = Callable[[bytes], bytes]
"""Escapes a value for the inside of a quoted SQL string; it does not add the quotes (the template has them)."""


class Hole(NamedTuple):
    """A place in a query where a part of the key goes; `quoted` says whether it stands inside a string."""

    part: str
    quoted: bool


class Value(NamedTuple):
    """A piece of a statement that came from a client and must be escaped.

    `double_quoted` says that the template has it between double quotes. Where backslashes do not
    escape, the client library's way (and so Postfix's) doubles single quotes only, and leaves such
    a value open to injection.
    """

    raw: bytes
    double_quoted: bool = False

    def escaped(self, quote: Quote) -> bytes:
        """Return the value escaped by `quote`, and its double quotes doubled if that is needed."""
        text = quote(self.raw)
        if not self.double_quoted:
            return text
        # Doubled rather than behind a backslash, which with ANSI_QUOTES would let it end the name.
        return text.replace(b'"' if quote(b'"') == b'"' else b'\\"', b'""')


_FITS = {
    Place.CODE: re.compile(rb"[A-Za-z0-9_]*"),
    Place.NAME: re.compile(rb"[ !#-&(-\[\]-_a-~]*"),
    Place.BRACKET: re.compile(rb"[ !#-&(-Z^-_a-~]*"),
    Place.LINE_COMMENT: re.compile(rb"[^\x00-\x1f\x7f]*"),
    Place.COMMENT: re.compile(rb"[^\x00-\x1f\x7f*/]*"),
}
"""The characters of a value where no quoting protects it: nothing that could end the place, or be SQL."""


def check_fit(table: str, place: Place, value: bytes) -> None:
    """Raise DataError for a value that could change the query where it stands."""
    if not place.is_string and _FITS[place].fullmatch(value) is None:
        where, rest = (
            ("in a comment", "cannot stand there")
            if place.is_comment
            else ("outside quotes", "is more than letters, digits and _")
        )
        raise DataError(f"table {table}: a variable {where} has a value that {rest}")


class Statement(NamedTuple):
    """One query as pieces: literal SQL (bytes) and values.

    `table` is the configured name that the query belongs to, for logs and metrics;
    `require_result_set` is mysql_table(5)'s (a stored procedure that returns no result set is an
    error when true). `needs_backslashes` says that its strings end elsewhere where backslashes do
    not escape, and its values would not be safe there. `only_reads` says that its text can change
    nothing, so that it may be sent twice; whatever a session without the right to write runs may, too.
    """

    table: str
    pieces: tuple[bytes | Value, ...]
    require_result_set: bool = True
    needs_backslashes: bool = False
    only_reads: bool = False

    def render(self, quote: Quote) -> bytes:
        """Return the SQL text with every value escaped by `quote`.

        Raises DataError for a connection that would read the strings otherwise.
        """
        if self.needs_backslashes and quote(b"'") == b"''":
            raise DataError(
                f"table {self.table}: a string in its query has a quote behind a backslash, which ends "
                "it in the server's SQL mode NO_BACKSLASH_ESCAPES; write the quote twice instead"
            )
        return b"".join(
            [piece if isinstance(piece, bytes) else piece.escaped(quote) for piece in self.pieces]
        )

    def values_outside_strings(self) -> list[str]:
        """Return, in lower case, the values that the server takes for a part of the SQL.

        A number, or the name of a column or table.
        """
        found: list[str] = []
        lexer = SqlLexer()
        for piece in self.pieces:
            if isinstance(piece, bytes):
                for _ in lexer.read(piece.decode("latin-1")):
                    pass
            elif not lexer.place.is_string:
                found.append(piece.raw.decode("utf-8", "replace").lower())
        return found
