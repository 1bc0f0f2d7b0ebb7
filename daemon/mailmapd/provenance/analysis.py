"""From a query and a schema to what the query reads."""

from __future__ import annotations

from collections.abc import Iterator

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import Scope, traverse_scope

from mailmapd.provenance.equality import BARE, CLOSE, OPEN, Equalities, Owner, Source, conjuncts
from mailmapd.provenance.reading import CannotTell, Provenance, Query, Reading, Schema
from mailmapd.provenance.reverse import reverse_query
from mailmapd.provenance.volatile import volatile
from mailmapd.template.sql_lexer import depends_on_version

_DEEPEST_VIEW = 8
"""Views of views beyond this are taken for a circle."""

_OTHERWISE = {"ANSI_QUOTES": '"', "NO_BACKSLASH_ESCAPES": "\\", "PIPES_AS_CONCAT": "||"}
"""Signs that mean something else than the parser takes them for, by the SQL mode in which they do."""


def analyse(query: Query, default_schema: str, schema: Schema) -> Provenance:
    """Return what a query reads. Raises CannotTell, with the reason."""
    text = _text(query)
    if depends_on_version(text):
        raise CannotTell("it has a comment that servers read as SQL (/*! … */)")
    tree = _parsed(text, "mysql")
    views: set[tuple[str, str]] = set()
    _resolve_views(tree, default_schema, schema, _DEEPEST_VIEW, views)
    for reason in volatile(tree):
        raise CannotTell(f"its answer depends on {reason}")
    readings: list[Reading] = []
    for scope in traverse_scope(tree):
        if isinstance(scope.expression, exp.Select):
            readings += _Select(scope, default_schema, schema).readings()
    if len(readings) != sum(1 for _ in tree.find_all(exp.Table)):
        raise CannotTell("it names a table in a way that is not understood")
    return Provenance(tuple(readings), frozenset(views))


def check_mode(query: Query, sql_mode: str) -> None:
    """Raise CannotTell, with the reason, when a query means something else in the server's SQL mode."""
    text = "".join([piece for piece in query if isinstance(piece, str)])
    for mode in sql_mode.upper().split(","):
        if mode in _OTHERWISE and _OTHERWISE[mode] in text:
            raise CannotTell(f"it has {_OTHERWISE[mode]}, and the server the sql_mode {mode}")


def check_steady(query: Query) -> None:
    """Raise CannotTell, with the reason, when a query for SQLite may change its answer without any commit."""
    for reason in volatile(_parsed(_text(query), "sqlite")):
        raise CannotTell(f"its answer depends on {reason}")


def _text(query: Query) -> str:
    """Return the query with its holes marked, in a form that the parser takes for a part of a string, or for a name."""
    pieces = []
    for piece in query:
        if isinstance(piece, str):
            pieces.append(piece)
        elif piece.quoted:
            pieces.append(f"{OPEN}{piece.part}{CLOSE}")
        else:
            pieces.append(f"mailmapd_hole_{piece.part}_mailmapd")
    return "".join(pieces)


def _parsed(text: str, dialect: str) -> exp.Expr:
    try:
        statements = [
            statement for statement in sqlglot.parse(text, read=dialect) if statement is not None
        ]
    except (SqlglotError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CannotTell(f"it cannot be parsed: {reason}") from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise CannotTell("it is not one SELECT")
    if statements[0].find(exp.With):
        raise CannotTell("it has a WITH clause")
    return statements[0]


def _resolve_views(
    tree: exp.Expr, default: str, schema: Schema, depth: int, views: set[tuple[str, str]]
) -> None:
    """Put each view's own query in the place of its name, which is added to `views`."""
    for table in list(tree.find_all(exp.Table)):
        name = table.db or default
        if schema.columns(name, table.name) is not None:
            continue
        text = schema.view(name, table.name)
        if text is None:
            fault = schema.fault(name, table.name)
            raise CannotTell(fault or f"{name}.{table.name} is not there, or not to be seen")
        if not text:
            raise CannotTell(f"{name}.{table.name} is a view; GRANT SHOW VIEW on it to the account")
        if depth == 0:
            raise CannotTell(f"{name}.{table.name} is a view of views of views")
        views.add((name, table.name))
        inner = _parsed(text, "mysql")
        _resolve_views(inner, name, schema, depth - 1, views)
        alias = exp.TableAlias(this=exp.to_identifier(table.alias or table.name))
        joins = table.args.get("joins")
        table.replace(exp.Subquery(this=inner, alias=alias, joins=joins))


class _Select:
    """One SELECT: a scope of its own, with the base tables that it names."""

    def __init__(self, scope: Scope, default_schema: str, schema: Schema) -> None:
        self._select = scope.expression
        self._scope = scope
        self._sources: dict[str, Source] = {}
        self._in_partitions: set[str] = set()  # of which any column may decide
        for alias, (_, source) in scope.selected_sources.items():
            if isinstance(source, exp.Table):
                name = source.db or default_schema
                columns = schema.columns(name, source.name)
                if columns is None:
                    raise CannotTell(f"{name}.{source.name} is no base table")
                self._sources[alias.lower()] = Source(name, source.name, columns)
                if source.args.get("partition"):
                    self._in_partitions.add(alias.lower())
        # Anywhere, also in parentheses
        self._outer = any(_is_outer(join) for join in self._select.find_all(exp.Join))
        self._conditions = list(self._all_conditions())

    def readings(self) -> Iterator[Reading]:
        """Yield what is read of each base table."""
        owner: Owner = self._owner
        equalities = Equalities(self._conditions, self._sources, owner)
        for alias, source in self._sources.items():
            columns = self._columns(alias)
            for column in sorted(columns):
                # It may depend on the time, and a row image need not have it when what it is made of has changed
                if source.columns[column].is_virtual:
                    raise CannotTell(
                        f"{source.schema}.{source.table}.{column} is a virtual column, whose changes the log need "
                        "not say; a STORED one would do"
                    )
            reading = Reading(source.schema, source.table, columns, equalities.bindings(alias))
            if reading.grade == "table" and not self._outer and self._is_alone():
                found = reverse_query(alias, self._sources, self._conditions, equalities, owner)
                reading = Reading(
                    source.schema, source.table, reading.columns, reading.alternatives, found
                )
            yield reading

    def _is_alone(self) -> bool:
        """Return whether the SELECT reads base tables only, so that a reverse query can be made of it."""
        return len(self._sources) == len(self._scope.selected_sources)

    def _all_conditions(self) -> Iterator[exp.Expr]:
        """Yield the conditions that every joined row satisfies; those of an outer join's ON restrict one side only."""
        where = self._select.args.get("where")
        yield from conjuncts(where.this if where else None)
        for join in self._select.args.get("joins") or []:
            if not _is_outer(join):
                yield from conjuncts(join.args.get("on"))

    def _owner(self, column: exp.Column) -> str | None:
        """Return the alias of the base table whose column this is; None when it is another's, or could be several's."""
        if column.table:
            alias = column.table.lower()
            return alias if alias in self._sources else None
        if len(self._sources) != len(self._scope.selected_sources):
            return None
        own = [
            alias
            for alias, source in self._sources.items()
            if column.name.lower() in source.columns
        ]
        return own[0] if len(own) == 1 else None

    def _columns(self, alias: str) -> frozenset[str]:
        """Return the columns of a table that the SELECT may speak of; with a doubt, all of them."""
        known = self._sources[alias].columns
        if alias in self._in_partitions:
            return frozenset(known)
        found: set[str] = set()
        for node in self._select.walk():
            if isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count):
                return frozenset(known)
            if isinstance(node, exp.Join) and (node.args.get("using") or node.method):
                return frozenset(known)
            if isinstance(node, exp.Column):
                if BARE.search(node.sql("mysql")):
                    return frozenset(known)
                if not node.table or node.table.lower() == alias:
                    found.add(node.name.lower())
        return frozenset(found & known.keys())


def _is_outer(join: exp.Join) -> bool:
    """Return whether rows may be joined that do not fit the condition."""
    side, kind = (join.side or "").upper(), (join.kind or "").upper()
    return bool(join.args.get("using") or side or kind not in {"", "INNER", "CROSS"})
