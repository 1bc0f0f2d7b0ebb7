"""Readings: the places where a query reads rows, as values without behaviour.

A `Pattern` is what a column must equal: literal text, parts of the key, and pieces that nothing is known of. Parts are
named as the template's expansions: ``s``, ``u``, ``d``, ``1``… for mysql_table(5), the number of the use for Dovecot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, Protocol

from mailmapd.errors import MailmapdError
from mailmapd.template.statement import Hole


class CannotTell(MailmapdError):
    """It cannot be told what the query reads; the text is the reason, for a person."""


class Text(NamedTuple):
    """Literal text."""

    text: str


class Part(NamedTuple):
    """A part of the key."""

    name: str


class Unknown(Enum):
    """The one piece that may be anything."""

    UNKNOWN = 0


UNKNOWN: Final = Unknown.UNKNOWN

Piece = Text | Part | Unknown
Pattern = tuple[Piece, ...]


Query = tuple[str | Hole, ...]
"""A query's text with its holes."""


class Binding(NamedTuple):
    """A column that must equal a pattern."""

    column: str
    pattern: Pattern

    @property
    def parts(self) -> frozenset[str]:
        """Return the parts of the key that the pattern holds."""
        return frozenset(piece.name for piece in self.pattern if isinstance(piece, Part))


def names_keys(alternatives: tuple[tuple[Binding, ...], ...]) -> bool:
    """Return whether a row tells at least a part of each key that it matters to."""
    return all(any(binding.parts for binding in alternative) for alternative in alternatives)


class Reverse(NamedTuple):
    """A SELECT of the `parts` of the keys that a row of the table may matter to.

    `pieces` are SQL text and, as `Placeholder`, columns of the changed row, whose values go there as literals.
    """

    pieces: tuple[str | Placeholder, ...]
    parts: tuple[str, ...]


class Placeholder(NamedTuple):
    """Stands where the value of this column of the changed row goes."""

    column: str


@dataclass(frozen=True, slots=True)
class Reading:
    """One place where a query reads a base table.

    `columns` are those that the query mentions (lower case): a change of others changes nothing. A row matters to a key
    only if it fits one of the `alternatives`, each of them bindings that hold together; an empty alternative fits every
    key. `reverse` finds the keys where a row fits an alternative that holds no part of the key.
    """

    schema: str
    table: str
    columns: frozenset[str]
    alternatives: tuple[tuple[Binding, ...], ...]
    reverse: Reverse | None = None

    @property
    def grade(self) -> str:
        """Return what a change drops at most: ``key`` (those that it names), ``reverse`` or ``table``."""
        if names_keys(self.alternatives):
            return "key"
        return "table" if self.reverse is None else "reverse"

    @property
    def bound(self) -> frozenset[str]:
        """Return the columns that are compared with the key."""
        return frozenset(
            binding.column for alternative in self.alternatives for binding in alternative
        )


@dataclass(frozen=True, slots=True)
class Provenance:
    """Everything that one query reads; `views` are the views that it reads it through, each as (schema, name)."""

    readings: tuple[Reading, ...]
    views: frozenset[tuple[str, str]] = frozenset()

    @property
    def tables(self) -> frozenset[tuple[str, str]]:
        """Return the base tables, each as (schema, name)."""
        return frozenset((reading.schema, reading.table) for reading in self.readings)


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its place in a row (from 0), its data type and its collation, as information_schema names them.

    One that is virtual is computed when it is read.
    """

    ordinal: int
    type: str
    collation: str = ""
    is_virtual: bool = False


class Schema(Protocol):
    """Knows tables and views. Names of columns are in lower case."""

    def columns(self, schema: str, table: str) -> Mapping[str, Column] | None:
        """Return a base table's columns, or None when there is no such base table that can be followed."""
        ...

    def fault(self, schema: str, table: str) -> str:
        """Return why a table that is there cannot be followed, empty where nothing keeps it from that."""
        ...

    def view(self, schema: str, name: str) -> str | None:
        """Return a view's query, empty where the account may not see it, or None when there is no such view."""
        ...
