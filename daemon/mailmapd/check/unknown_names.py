"""Unknown columns and tables: the database's refusal, with the existing names that come nearest."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping

from mailmapd.check.database_schema import TableShape
from mailmapd.check.finding import Finding, Level
from mailmapd.errors import SchemaError
from mailmapd.template.sql_lexer import without_comments

_COLUMN = re.compile(r"Unknown column '([^']+)'", re.IGNORECASE)
_TABLE = re.compile(r"Table '(?:[^'.]+\.)?([^']+)' doesn't exist", re.IGNORECASE)
_WORD = re.compile(r"\w+")


def schema_finding(
    name: str,
    query: str,
    error: SchemaError,
    schema: Mapping[str, TableShape],
    address_columns: Collection[str],
) -> Finding:
    """Return the finding for a query that does not fit the database.

    `address_columns` are those that hold mail addresses.
    """
    where = f"table {name}"
    column = _COLUMN.search(str(error))
    if column:
        return _column_finding(where, query, column[1].rpartition(".")[2], schema, address_columns)
    table = _TABLE.search(str(error))
    if table:
        return Finding(
            Level.FAULT,
            "unknown_table",
            where,
            f'there is no table "{table[1]}"',
            _did_you_mean(table[1], schema, "there are"),
        )
    return Finding(Level.FAULT, "query_refused", where, str(error), "correct the query")


def _column_finding(
    where: str,
    query: str,
    wanted: str,
    schema: Mapping[str, TableShape],
    address_columns: Collection[str],
) -> Finding:
    query = without_comments(query)
    words = set(_WORD.findall(query))
    used = [shape for table, shape in schema.items() if table in words]
    known = dict.fromkeys(existing for shape in used for existing in shape.columns)
    problem = f'there is no column "{wanted}" in {" or ".join(shape.name for shape in used) or "the table"}'
    likely = [column for column in known if column in address_columns]
    if likely and re.search(rf"\b{re.escape(wanted)}`?\s*=\s*'%[sS]'", query):
        missing = [
            shape
            for shape in used
            for column in likely[:1]
            if column in shape.columns and not shape.leads_index(column)
        ]
        remedy = f"did you mean {' or '.join(likely[:3])}, which holds addresses?"
        if missing:
            remedy += f"\n{missing[0].index_on(likely[0])}"
        return Finding(Level.FAULT, "unknown_column", where, problem, remedy)
    return Finding(
        Level.FAULT, "unknown_column", where, problem, _did_you_mean(wanted, known, "it has")
    )


def _did_you_mean(wanted: str, known: Iterable[str], introduction: str) -> str:
    known = list(known)
    near = (
        difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
        or [name for name in known if _share_a_word(wanted, name)][:3]
    )
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"{introduction} {', '.join(known[:20])}" if known else ""


def _share_a_word(one: str, other: str) -> bool:
    return bool(set(one.lower().split("_")) & set(other.lower().split("_")))
