"""Statements: one SQL query, ready but for the quoting that only a connection can do.

A statement keeps the template's literal text and the values that go between apart, because how a
value must be escaped depends on the connection that will run it: its character set, and whether the
server's SQL mode has NO_BACKSLASH_ESCAPES.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mailmapd.template.open_quote import open_quote

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
        return text.replace(b'"', b'""') if self.double_quoted and quote(b'"') == b'"' else text


class Statement(NamedTuple):
    """One query as pieces: literal SQL (bytes) and values.

    `table` is the configured name that the query belongs to, for logs and metrics;
    `require_result_set` is mysql_table(5)'s (a stored procedure that returns no result set is an
    error when true).
    """

    table: str
    pieces: tuple[bytes | Value, ...]
    require_result_set: bool = True

    def render(self, quote: Quote) -> bytes:
        """Return the SQL text with every value escaped by `quote`."""
        return b"".join(
            [piece.escaped(quote) if isinstance(piece, Value) else piece for piece in self.pieces]
        )

    def values_outside_strings(self) -> list[str]:
        """Return, in lower case, the values that the server takes for a part of the SQL.

        A number, or the name of a column or table.
        """
        found: list[str] = []
        quote = ""
        for piece in self.pieces:
            if isinstance(piece, bytes):
                quote = open_quote(piece.decode("latin-1"), quote)
            elif quote not in ("'", '"'):
                found.append(piece.raw.decode("utf-8", "replace").lower())
        return found
