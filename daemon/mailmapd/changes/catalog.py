"""The catalog: what the server says of its tables, as far as the account may see it.

Columns and views come from information_schema. Foreign keys are read from SHOW CREATE TABLE, because MariaDB leaves
information_schema.referential_constraints empty for an account that may only SELECT.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from mailmapd.databases.mysql.binlog.session import (
    ANSWER,
    CATALOG_ANSWER,
    MAX_CATALOG,
    CannotFollow,
    Session,
    TooSlow,
)
from mailmapd.errors import DatabaseError
from mailmapd.provenance.reading import Column

Rows = Callable[[str, int], Awaitable[Sequence[tuple[bytes | None, ...]]]]
"""Runs a statement in ASCII and returns its rows, of a number of columns. Raises DatabaseError."""

Name = tuple[str, str]
"""A table by schema and name."""

_SYSTEM = "('information_schema', 'mysql', 'performance_schema', 'sys')"
_COLUMNS = (
    "SELECT table_schema, table_name, column_name, ordinal_position, data_type, collation_name, extra "
    f"FROM information_schema.columns WHERE table_schema NOT IN {_SYSTEM}"
)
_TABLES = (
    "SELECT table_schema, table_name, table_type, engine "
    f"FROM information_schema.tables WHERE table_schema NOT IN {_SYSTEM}"
)
_VIEWS = (
    "SELECT table_schema, table_name, view_definition "
    f"FROM information_schema.views WHERE table_schema NOT IN {_SYSTEM}"
)
_TRANSACTIONAL = frozenset(("INNODB", "ROCKSDB"))
"""Engines whose changes are seen by every reader from the moment on that the fence waits for.

Others have no such moment: a row of MyISAM is logged while its table is locked, and seen when the lock has gone.
"""

_ELSEWHERE = frozenset(
    (
        *("FEDERATED", "CONNECT", "SPIDER", "SPHINX", "S3", "OQGRAPH", "NDBCLUSTER"),
        "MRG_MYISAM",  # the log speaks of the tables that it merges
    )
)
"""Engines whose rows may change without this server's log saying so of their table."""

_VIEW_TYPES = frozenset(("VIEW", "SYSTEM VIEW"))

_LOG_STATUS = (("SHOW BINARY LOG STATUS", 5), ("SHOW MASTER STATUS", 4), ("SHOW MASTER STATUS", 5))
"""MySQL since 8.2, MariaDB, and MySQL before: the statement, and how many columns its one row has."""

_LONGEST = 256 * 1024
"""Characters of the longest definition that is read: of a longer one nothing is known, as if it could not be seen."""

_SLICE = 500  # rows that are taken in before lookups have their turn

_NAME = r"`((?:[^`]|``)+)`"
_NAMES = r"`(?:[^`]|``)+`(?:, `(?:[^`]|``)+`)*"
_FOREIGN_KEY = re.compile(
    rf"FOREIGN KEY \({_NAMES}\) REFERENCES (?:{_NAME}\.)?{_NAME} \({_NAMES}\)([^\n]*)"
)
_CASCADES = re.compile(r"ON (?:DELETE|UPDATE) (?:CASCADE|SET NULL|SET DEFAULT)")


class Catalog:
    """A moment's view of the server's tables; a `Schema` for provenance. `sql_mode` is that of the account."""

    def __init__(
        self,
        columns: Mapping[Name, Mapping[str, Column]],
        views: Mapping[Name, str],
        definitions: Mapping[Name, str],
        sql_mode: str = "",
        faults: Mapping[Name, str] | None = None,
    ) -> None:
        self.sql_mode = sql_mode
        self._columns = columns
        self._views = views
        self._definitions = definitions
        self._faults = faults or {}

    def columns(self, schema: str, table: str) -> Mapping[str, Column] | None:
        """Return a base table's columns by name, or None when there is no such table, or it cannot be followed."""
        return self._columns.get((schema, table))

    def fault(self, schema: str, table: str) -> str:
        """Return why a table that is there cannot be followed, empty where nothing keeps it from that."""
        return self._faults.get((schema, table), "")

    def view(self, schema: str, name: str) -> str | None:
        """Return a view's query; empty where the account may not see it; None when there is no such view."""
        return self._views.get((schema, name))

    def cascading_parents(self, schema: str, table: str) -> frozenset[Name]:
        """Return the tables whose rows, deleted or updated, may change rows of this table by way of foreign keys.

        The table itself is among them when a key of it leads back to it. Raises DatabaseError when the account may not
        see that of one of them.
        """
        found: set[Name] = set()
        new = {(schema, table)}
        while new:
            child = new.pop()
            definition = self._definitions.get(child)
            if definition is None:
                raise DatabaseError(
                    f"the account may not see the foreign keys of {child[0]}.{child[1]}, or its name is not ASCII"
                )
            for of_schema, name, rules in _FOREIGN_KEY.findall(definition):
                parent = (_unquoted(of_schema) or child[0], _unquoted(name))
                if _CASCADES.search(rules) and parent not in found:
                    found.add(parent)
                    new.add(parent)
        return frozenset(found)


def _unquoted(name: str) -> str:
    return name.replace("``", "`")


async def ask_for_catalog(session: Session) -> Catalog:
    """Return a server's catalog, however long that takes it within reason. Raises CannotFollow, DatabaseError."""
    await session.limit(CATALOG_ANSWER)
    try:
        return await read_catalog(
            partial(session.rows, seconds=CATALOG_ANSWER + ANSWER, most=MAX_CATALOG)
        )
    except TooSlow as error:
        raise CannotFollow(
            f"{session.host}: it takes longer than {CATALOG_ANSWER:g} s to say what its tables are: {error}"
        ) from None


async def read_catalog(rows: Rows) -> Catalog:
    """Ask a server for its catalog, in a session that has the plainest SQL mode then. Raises DatabaseError."""
    modes = await rows("SELECT @@SESSION.sql_mode", 1)
    # In others, definitions have other quotes around names, or none
    await rows("SET SESSION sql_mode = '', sql_quote_show_create = 1", 0)
    columns: dict[Name, dict[str, Column]] = {}
    for number, row in enumerate(await rows(_COLUMNS, 7)):
        if not number % _SLICE:
            await asyncio.sleep(0)
        schema, table, name, ordinal, kind, collation, extra = map(_text, row)
        if not ordinal.isdecimal():
            raise DatabaseError(f"a column's place is {ordinal!a}")
        column = Column(
            int(ordinal) - 1,
            sys.intern(kind.lower()),
            sys.intern(collation),
            is_virtual="VIRTUAL" in extra.upper(),
        )
        columns.setdefault((schema, table), {})[name.lower()] = column
    definitions: dict[Name, str] = {}
    faults: dict[Name, str] = {}
    left_out = await _left_out(rows)
    size = 0
    for row in await rows(_TABLES, 4):
        schema, table, kind, engine = map(_text, row)
        fault = "" if kind.upper() in _VIEW_TYPES else _fault(kind, engine, left_out(schema))
        if fault or kind.upper() in _VIEW_TYPES:
            columns.pop((schema, table), None)
        if fault:
            faults[schema, table] = f"{schema}.{table} {fault}"
        if (schema, table) not in columns:
            continue
        definition = await _definition(rows, schema, table)
        if definition is not None:
            definitions[schema, table] = definition
            size += len(definition)
            if size > MAX_CATALOG:
                raise DatabaseError(
                    f"the definitions of all tables take more than {MAX_CATALOG} bytes"
                )
    views = {}
    for row in await rows(_VIEWS, 3):
        schema, table, query = map(_text, row)
        views[schema, table] = query if len(query) <= _LONGEST else ""
    return Catalog(columns, views, definitions, _text(modes[0][0]) if modes else "", faults)


def _fault(kind: str, engine: str, left_out: bool) -> str:
    """Return why a table of this type and engine cannot be followed, or an empty text."""
    if kind.upper() != "BASE TABLE":
        return f"is of the type {kind}, whose log is not that of plain rows"
    if engine.upper() in _ELSEWHERE:
        return (
            f"has the engine {engine}, whose rows change without this server's log saying so of it"
        )
    if engine.upper() not in _TRANSACTIONAL:
        return (
            f"has the engine {engine or 'that cannot be seen'}, where nothing says from when on everybody sees a "
            "change; ALTER TABLE … ENGINE = InnoDB would do"
        )
    if left_out:
        return "is in a database that binlog_do_db or binlog_ignore_db leave out of the log"
    return ""


async def read_filters(rows: Rows) -> tuple[frozenset[str], frozenset[str]] | None:
    """Return binlog_do_db and binlog_ignore_db, or None where the account may not see them."""
    for statement, width in _LOG_STATUS:
        try:
            [found] = await rows(statement, width)
        except (DatabaseError, ValueError):
            continue
        do, ignore = [frozenset(filter(None, _text(value).split(","))) for value in found[2:4]]
        return do, ignore
    return None


async def _left_out(rows: Rows) -> Callable[[str], bool]:
    """Return what tells whether the log leaves out a schema's rows, as far as the account may see that."""
    do, ignore = await read_filters(rows) or (frozenset(), frozenset())
    return lambda schema: schema not in do if do else schema in ignore


async def _definition(rows: Rows, schema: str, table: str) -> str | None:
    quoted = ".".join("`" + name.replace("`", "``") + "`" for name in (schema, table))
    if not quoted.isascii():
        return None  # as the account may not see it
    try:
        found = await rows(f"SHOW CREATE TABLE {quoted}", 2)
    except DatabaseError:
        return None  # what needs it says so: `cascading_parents` tells what is not known
    definition = _text(found[0][1]) if found else ""
    return definition if 0 < len(definition) <= _LONGEST else None


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")
