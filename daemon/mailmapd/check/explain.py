"""EXPLAIN: queries that read whole tables, and the index that would spare it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mailmapd.check.database_schema import TableShape, quoted, quoted_text
from mailmapd.check.finding import Finding, Level
from mailmapd.databases.interface import Database
from mailmapd.databases.settings import MysqlSettings
from mailmapd.errors import DatabaseError
from mailmapd.model import ResultSet
from mailmapd.template.sql_lexer import without_comments
from mailmapd.template.statement import Statement

_LARGE = 500
"""With fewer rows the server may read a whole table because that is quickest, although there is an index."""

_MAY_NOT_EXPLAIN = "(error 1345)"  # ER_VIEW_NO_EXPLAIN
_FULL_SCANS = frozenset(("ALL", "index"))
_NO_ROW = "impossible where"
_ALIASED = re.compile(r"(?:FROM|JOIN|,)\s+`?(\w+)`?\s+(?:AS\s+)?`?(\w+)`?", re.IGNORECASE)
_COMPARED = re.compile(r"(?:`?(\w+)`?\.)?`?(\w+)`?\s*(?:=|\bIN\b)", re.IGNORECASE)
_COMPARED_BEHIND = re.compile(r"=\s*(?:`?(\w+)`?\.)?`?(\w+)`?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One row of EXPLAIN's answer; `rows` is the server's estimate of how many it reads."""

    table: str
    access: str
    possible_keys: str
    key: str
    rows: int
    extra: str


class PlanHidden(Exception):
    """The account may send the query, and may not see its plan: a view is in it."""


async def explain(database: Database, statement: Statement) -> list[PlanRow]:
    """Return the plan of a statement. Raises DatabaseError, and PlanHidden."""
    explained = statement._replace(pieces=(b"EXPLAIN ", *statement.pieces))
    try:
        return list(_plan(await database.fetch(explained)))
    except DatabaseError as error:
        if _MAY_NOT_EXPLAIN in str(error):
            raise PlanHidden from error
        raise


def hidden_finding(name: str, tables: Sequence[str], settings: MysqlSettings) -> Finding:
    """Return the one note about queries whose plan the account may not see."""
    problem = f"the plan of {', '.join(tables)} cannot be looked at: the account may not see into a view (error 1345)"
    account = f"{quoted_text(settings.user)}@'localhost'"
    remedy = f"GRANT SELECT, SHOW VIEW ON {quoted(settings.dbname)}.* TO {account};"
    return Finding(Level.NOTE, "view_plan", f"database {name}", problem, remedy)


def _plan(result: ResultSet) -> Iterator[PlanRow]:
    columns = [name.lower() for name in result.columns]
    for row in result.rows:
        values = {
            name: (value or b"").decode("utf-8", "replace")
            for name, value in zip(columns, row, strict=True)
        }
        rows = values.get("rows", "")
        yield PlanRow(
            values.get("table", ""),
            values.get("type", ""),
            values.get("possible_keys", ""),
            values.get("key", ""),
            int(rows) if rows.isdigit() else 0,
            values.get("extra", ""),
        )


def tells_nothing(plan: list[PlanRow]) -> bool:
    """Return whether the server saw at once that the sample key has no row, and so made no plan."""
    return any(
        _NO_ROW in row.extra.lower() or "no matching row" in row.extra.lower() for row in plan
    )


def scan_findings(
    name: str, query: str, plan: list[PlanRow], schema: Mapping[str, TableShape]
) -> Iterator[Finding]:
    """Yield a finding for each table that is read as a whole although rows are wanted by key."""
    query = without_comments(query)
    aliases = {alias.lower(): table for table, alias in _ALIASED.findall(query)}
    for row in plan:
        chosen_for_size = row.possible_keys and row.rows < _LARGE
        if row.access not in _FULL_SCANS or chosen_for_size or row.table.startswith("<"):
            continue
        shape = schema.get(row.table) or schema.get(aliases.get(row.table.lower(), ""))
        if shape is not None:
            yield _scan_finding(name, query, row, shape)


def _scan_finding(name: str, query: str, row: PlanRow, shape: TableShape) -> Finding:
    where = f"table {name}"
    column = _wanted_column(query, row.table, shape)
    problem = f"each query reads all of {shape.name}"
    if column is None:
        return Finding(
            Level.WARNING,
            "full_scan",
            where,
            problem,
            "compare a column with the key itself, without a function around the column",
        )
    if shape.leads_index(column):
        remedy = f"{shape.name}.{column} has an index that this form of query cannot use; write it as a join"
        return Finding(Level.WARNING, "full_scan", where, problem, remedy)
    remedy = shape.index_on(column)
    return Finding(
        Level.WARNING, "missing_index", where, f"{problem}: there is no index on {column}", remedy
    )


def _wanted_column(query: str, alias: str, shape: TableShape) -> str | None:
    """Return the column that the query compares for equality.

    First of those without an index, then of those compared with the key.
    """
    tables = {alias.lower(), shape.name.lower(), ""}
    behind = [
        (owner, column, match.end())
        for match in _COMPARED.finditer(query)
        for owner, column in [match.groups("")]
    ]
    found = [
        (shape.leads_index(column), 0 if "%" in query[end : end + 6] else 1, column)
        for owner, column, end in behind
        if owner.lower() in tables and column in shape.columns
    ]
    found += [
        (shape.leads_index(column), 2, column)
        for owner, column in _COMPARED_BEHIND.findall(query)
        if owner.lower() in tables and column in shape.columns
    ]
    texts = [item for item in found if shape.is_text(item[2])]
    return min(texts or found, default=(True, 0, None))[2]
