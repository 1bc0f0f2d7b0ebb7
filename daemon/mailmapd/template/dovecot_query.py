"""A password_query, user_query or iterate_query of Dovecot 2.3, compiled.

The cached unit is what the SQL really depends on: `sql_key` joins the value of every different use
of a variable with NUL (no value holds one), and `statement` is made from that key alone. `%u` alone
gives the user name itself as the key; a query that only uses `%d` is asked once for all users of a
domain.

A variable between quotes is escaped by the connection, as Dovecot does. Escaping protects nothing
outside quotes, so there a value may only hold letters, digits and ``_`` (`mailbox.enable%Ls%Lc =
1`, `WHERE id = %n`), between backquotes no quote, backquote or backslash, and in a comment nothing
that could end it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mailmapd.errors import DataError, TemplateError
from mailmapd.template.dovecot_variables import PER_LOGIN, Use, parse_variables
from mailmapd.template.sql_lexer import Place, layout, only_reads
from mailmapd.template.statement import Hole, Statement, Value, check_fit


@dataclass(frozen=True, slots=True)
class _Hole:
    """The place where the value of use number `use` goes, and what is open there."""

    use: int
    place: Place


@dataclass(frozen=True, slots=True)
class DovecotQuery:
    """One compiled query. `name` is the configured table name, for logs and metrics."""

    name: str
    uses: tuple[Use, ...]
    pieces: tuple[bytes | _Hole, ...]
    needs_backslashes: bool = False
    only_reads: bool = False

    @classmethod
    def compile(cls, name: str, query: str, *, sqlite: bool = False) -> DovecotQuery:
        """Compile the text of a query, read as MySQL or as SQLite reads it.

        Raises TemplateError that names the variable at fault.
        """
        parts = list(parse_variables(query))
        if any(isinstance(part, str) and "\0" in part for part in parts):
            raise TemplateError("the query holds a NUL byte")
        texts = [part if isinstance(part, str) else None for part in parts]
        where = layout(texts, sqlite=sqlite)
        holes = iter(where.places)
        uses: list[Use] = []
        pieces: list[bytes | _Hole] = []
        for part in parts:
            if isinstance(part, str):
                pieces.append(part.encode("utf-8", "surrogateescape"))
                continue
            if part not in uses:
                uses.append(part)
            pieces.append(_Hole(uses.index(part), next(holes)))
        return cls(
            name,
            tuple(uses),
            tuple(pieces),
            where.needs_backslashes,
            only_reads(query, sqlite=sqlite),
        )

    @property
    def sources(self) -> frozenset[str]:
        """Return the variables that the query depends on, by the name their value travels under."""
        return frozenset(use.name for use in self.uses) - {"home"}

    @property
    def per_login(self) -> frozenset[str]:
        """Return the variables among them that make caching pointless."""
        return self.sources & PER_LOGIN

    @property
    def bare_sources(self) -> frozenset[str]:
        """Return the variables among them that stand outside quotes somewhere."""
        return frozenset(
            self.uses[piece.use].name
            for piece in self.pieces
            if isinstance(piece, _Hole) and piece.place is Place.CODE
        )

    @property
    def identity(self) -> bool:
        """True when `sql_key` is the user name itself."""
        return len(self.uses) == 1 and self.uses[0].plain_user

    def sql_key(self, values: Mapping[str, bytes]) -> bytes:
        """Return the cache key for one lookup; `values` maps source names to what the client sent (missing: empty)."""
        return b"\0".join([use.value(values) for use in self.uses])

    def statement(self, sql_key: bytes) -> Statement:
        """Return the SQL for a key made by `sql_key`.

        Raises DataError when a value cannot stand where the query puts it.
        """
        texts = sql_key.split(b"\0") if self.uses else []
        if len(texts) != len(self.uses):
            raise DataError(f"table {self.name}: a value holds a NUL byte")
        pieces: list[bytes | Value] = []
        for piece in self.pieces:
            if isinstance(piece, bytes):
                pieces.append(piece)
            else:
                check_fit(self.name, piece.place, texts[piece.use])
                pieces.append(Value(texts[piece.use], piece.place is Place.DOUBLE))
        return Statement(
            self.name,
            tuple(pieces),
            needs_backslashes=self.needs_backslashes,
            only_reads=self.only_reads,
        )

    def holes(self) -> tuple[str | Hole, ...]:
        """Return the query's text and, where a value goes, the number of the use that it belongs to."""
        return tuple(
            piece.decode("utf-8", "surrogateescape")
            if isinstance(piece, bytes)
            else Hole(str(piece.use), piece.place.is_string)
            for piece in self.pieces
        )

    def about(self, user: bytes) -> Callable[[bytes], bool]:
        """Return what tells of a SQL key whether its entry may hold something of this user."""
        values = {"user": user}
        own = [
            (place, use.value(values)) for place, use in enumerate(self.uses) if use.name == "user"
        ]

        def is_about(sql_key: bytes) -> bool:
            texts = sql_key.split(b"\0")
            for place, value in own:  # noqa: SIM110  # it is called for a million keys
                if texts[place] != value:
                    return False
            return True

        return is_about

    def concerns(self, sql_key: bytes, user: bytes) -> bool:
        """Return whether the entry may hold something of this user."""
        return self.about(user)(sql_key)
