"""Equalities: the conditions of one SELECT that say what must equal what, as alternatives of bindings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import NamedTuple

from sqlglot import exp

from mailmapd.provenance.reading import UNKNOWN, Binding, Column, Part, Pattern, Piece, Text

OPEN, CLOSE = "\ue000", "\ue001"
"""Marks around the name of a part inside a string; characters for private use, which no query has reason to hold."""

BARE = re.compile(r"mailmapd_hole_(\w+)_mailmapd")
"""A hole outside strings, as an identifier."""

_MARK = re.compile(f"{OPEN}(.*?){CLOSE}")
_MOST_ALTERNATIVES = 64
"""More would make following a change dearer than asking again; a condition that leads beyond is left out."""

_TEXT_TYPES = re.compile(r"(var)?(char|binary)|(tiny|medium|long)?(text|blob)")
"""Types whose raw bytes in the log are what a key is compared with."""

_UNPROVEN_COLLATION = re.compile(
    "lithuanian|latvian|roman|swe7|big5|gbk|gb2312|gb18030|koi8u|cp1251_ukrainian|macce|geostd8|ucs2|utf16|utf32"
    "|_(hu|la|lt|lv)_0900"
)
"""Collations that equate more than letter case in printable ASCII (by the servers' weights), or whose bytes differ.

Of all texts of one to three letters, and of pairs of pairs: Hungarian takes "ccs" for "cscs", Latin "i" for "j".
"""


class ColumnOf(NamedTuple):
    """A column of one of the SELECT's tables, by the table's alias."""

    alias: str
    name: str


_Raw = tuple[Piece | ColumnOf, ...]
"""A pattern in which columns of other tables may stand."""

Owner = Callable[[exp.Column], str | None]
"""Tells the alias of the table that a column belongs to, or None."""


class Source(NamedTuple):
    """A base table that a SELECT reads under an alias."""

    schema: str
    table: str
    columns: Mapping[str, Column]


def conjuncts(node: exp.Expr | None) -> list[exp.Expr]:
    """Return the conditions that must hold together."""
    if node is None:
        return []
    if isinstance(node, exp.Paren):
        return conjuncts(node.this)
    if isinstance(node, exp.And):
        return conjuncts(node.left) + conjuncts(node.right)
    return [node]


class Equalities:
    """The equalities of one SELECT."""

    def __init__(
        self, conditions: Iterable[exp.Expr], sources: Mapping[str, Source], owner: Owner
    ) -> None:
        self._sources = sources
        self._owner = owner
        self._alternatives: list[list[tuple[_Raw, _Raw]]] = [[]]
        for condition in conditions:
            found = self._of(condition)
            if len(self._alternatives) * len(found) <= _MOST_ALTERNATIVES:
                self._alternatives = [a + b for a, b in product(self._alternatives, found)]

    def bindings(self, alias: str) -> tuple[tuple[Binding, ...], ...]:
        """Return what the table's columns must equal, for each alternative; one without bindings fits everything."""
        found = [
            tuple(dict.fromkeys(self._bound(alias, alternative)))
            for alternative in self._alternatives
        ]
        return tuple(dict.fromkeys(found))

    def _of(self, node: exp.Expr) -> list[list[tuple[_Raw, _Raw]]]:
        """Return alternatives of equalities that a condition says; one without any says nothing."""
        if isinstance(node, exp.Paren):
            return self._of(node.this)
        if isinstance(node, exp.Or):
            return self._of(node.left) + self._of(node.right)
        if isinstance(node, exp.And):
            return [a + b for a, b in product(self._of(node.left), self._of(node.right))]
        if isinstance(node, exp.EQ):
            left, right = self.pattern(node.left), self.pattern(node.right)
            return [[(left, right)]] if left and right and self._as_text(left, right) else [[]]
        if isinstance(node, exp.In) and node.expressions and not node.args.get("query"):
            left = self.pattern(node.this)
            rights = [self.pattern(expression) for expression in node.expressions]
            if left and all(right and self._as_text(left, right) for right in rights):
                return [[(left, right)] for right in rights if right]
        return [[]]

    def _as_text(self, *sides: _Raw) -> bool:
        """Return whether sides are compared as text that only letter case and blanks at the end make equal.

        A number equals more than one text ('5', '05'), and what equals it need not equal each other.
        """
        collations = set()
        for side in sides:
            for piece in side:
                if not isinstance(piece, ColumnOf):
                    continue
                if self.is_text(*piece):
                    collations.add(self._sources[piece.alias].columns[piece.name].collation)
                elif len(side) == 1 or self._has_collation(*piece):
                    return False
        return len({name for name in collations if name and not name.endswith("_bin")}) <= 1

    def pattern(self, node: exp.Expr) -> _Raw | None:
        """Return the pattern that an expression stands for, or None when it is something else."""
        if isinstance(node, exp.Paren):
            return self.pattern(node.this)
        if isinstance(node, exp.Column):
            alias = None if BARE.search(node.sql("mysql")) else self._owner(node)
            return None if alias is None else (ColumnOf(alias, node.name.lower()),)
        if isinstance(node, exp.Literal) and node.is_string:
            return _literal(node.this)
        if isinstance(node, exp.Concat):
            parts = [self.pattern(_without_coalesce(expression)) for expression in node.expressions]
            if isinstance(node, exp.ConcatWs):
                return _separated(parts)
            return tuple(piece for part in parts if part for piece in part) if all(parts) else None
        if isinstance(node, exp.Lower):  # of the key: keys are compared in lower case anyway
            inner = self.pattern(node.this)
            constant = inner and not any(isinstance(piece, ColumnOf) for piece in inner)
            return inner if constant else None
        return None

    def _bound(self, alias: str, equalities: Iterable[tuple[_Raw, _Raw]]) -> Iterator[Binding]:
        classes = _Classes()
        for left, right in equalities:
            classes.join(left, right)
        for pattern in classes:
            match pattern:
                case (ColumnOf(owner, name),) if owner == alias and self.is_text(alias, name):
                    for other in classes.same_as(pattern):
                        if not _is_column(other):
                            yield Binding(name, _resolved(other, classes))

    def _has_collation(self, alias: str, name: str) -> bool:
        column = self._sources[alias].columns.get(name)
        return column is None or bool(column.collation)

    def is_text(self, alias: str, name: str) -> bool:
        """Return whether what equals a column, but for letter case, is one text."""
        column = self._sources[alias].columns.get(name)
        if column is None or _UNPROVEN_COLLATION.search(column.collation):
            return False
        return _TEXT_TYPES.fullmatch(column.type) is not None


class _Classes:
    """Patterns that equal each other."""

    def __init__(self) -> None:
        self._parents: dict[_Raw, _Raw] = {}

    def __iter__(self) -> Iterator[_Raw]:
        return iter(list(self._parents))

    def root(self, raw: _Raw) -> _Raw:
        while (parent := self._parents.setdefault(raw, raw)) != raw:
            raw = parent
        return raw

    def join(self, raw: _Raw, other: _Raw) -> None:
        self._parents[self.root(raw)] = self.root(other)

    def same_as(self, raw: _Raw) -> Iterator[_Raw]:
        root = self.root(raw)
        return (other for other in self if self.root(other) == root)


def _is_column(pattern: _Raw) -> bool:
    return len(pattern) == 1 and isinstance(pattern[0], ColumnOf)


def _resolved(pattern: _Raw, classes: _Classes) -> Pattern:
    """Return a pattern without columns: each is the part of the key that it equals, if there is one, or unknown."""
    found: list[Piece] = []
    for number, piece in enumerate(pattern, 1):
        if isinstance(piece, Text):
            found += _known(piece.text, last=number == len(pattern))
            continue
        if not isinstance(piece, ColumnOf):
            found.append(piece)
            continue
        equal = [
            other[0]
            for other in classes.same_as((piece,))
            if len(other) == 1 and isinstance(other[0], Part)
        ]
        found.append(equal[0] if equal else UNKNOWN)
    return tuple(found)


def _separated(parts: list[_Raw | None]) -> _Raw | None:
    """Return the pattern of a CONCAT_WS; a column in it may be NULL, and is left out with its separator then."""
    known = [
        part for part in parts if part and not any(isinstance(piece, ColumnOf) for piece in part)
    ]
    if len(known) < max(2, len(parts)):
        return None
    separator, *others = known
    found = [*others[0]]
    for other in others[1:]:
        found += [*separator, *other]
    return tuple(found)


def _literal(text: str) -> _Raw:
    found: list[Piece | ColumnOf] = []
    at = 0
    for mark in _MARK.finditer(text):
        if mark.start() > at:
            found.append(Text(text[at : mark.start()]))
        found.append(Part(mark[1]))
        at = mark.end()
    if at < len(text):
        found.append(Text(text[at:]))
    return tuple(found) or (Text(""),)


def _known(text: str, *, last: bool) -> Iterator[Piece]:
    """Yield what is known of the values that equal literal text; those that are compared end in no blank.

    Collations take more for equal to what is not printable ASCII, and may take blanks at the end for nothing.
    """
    if not text.isascii() or not text.isprintable():
        yield UNKNOWN
        return
    bare = text.rstrip(" ")
    yield Text(bare)
    if bare != text and not last:
        yield UNKNOWN  # nothing may come behind it


def _without_coalesce(node: exp.Expr) -> exp.Expr:
    """Return what the parser wraps in COALESCE, because it knows dialects whose CONCAT takes NULL for an empty text."""
    return node.this if isinstance(node, exp.Coalesce) and not node.expressions else node
