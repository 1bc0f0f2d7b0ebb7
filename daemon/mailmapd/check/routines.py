"""Procedures and functions that queries call: whether they write, lock, or are not deterministic.

Their bodies are in information_schema.ROUTINES, as far as the account may see them: without the
right to, the column is NULL, and what the routine declares of itself (SQL_DATA_ACCESS) is all that
is known. It is no proof of anything: procedures that insert are mostly declared CONTAINS SQL, which
is the default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mailmapd.check.finding import Finding, Level
from mailmapd.check.writing_queries import writes
from mailmapd.databases.interface import Database
from mailmapd.template.sql_lexer import code_of
from mailmapd.template.statement import Statement

_ROUTINES = (
    b"SELECT routine_schema, routine_name, routine_type, sql_data_access, is_deterministic, routine_definition "
    b"FROM information_schema.routines WHERE routine_schema NOT IN ('mysql', 'sys', 'information_schema')"
)
_CALLED = re.compile(r"(?:(\w+|`[^`]+`)\s*\.\s*)?(\w+|`[^`]+`)\s*(\(|$|;)", re.IGNORECASE)
_CALL = re.compile(r"\s*CALL\b\s*", re.IGNORECASE)
_MODIFIES = "MODIFIES SQL DATA"
_READS = ("READS SQL DATA", "NO SQL")


@dataclass(frozen=True, slots=True)
class Routine:
    """One procedure or function; `body` is None where the account may not see it."""

    schema: str
    name: str
    kind: str
    access: str
    deterministic: bool
    body: str | None


async def read_routines(database: Database) -> list[Routine]:
    """Return the routines that the account knows of. Raises DatabaseError."""
    result = await database.fetch(Statement("check", (_ROUTINES,)))
    routines = []
    for row in result.rows:
        schema, name, kind, access, deterministic = (_text(value) for value in row[:5])
        body = None if row[5] is None else _text(row[5])
        routines.append(
            Routine(schema, name, kind.lower(), access, deterministic.upper() == "YES", body)
        )
    return routines


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "surrogateescape")


def routine_findings(
    queries: Mapping[str, str], default_schema: str, routines: Iterable[Routine]
) -> Iterator[Finding]:
    """Yield what the routines called by queries do; `queries` are texts by table."""
    known = {(routine.schema.lower(), routine.name.lower()): routine for routine in routines}
    for table, query in queries.items():
        called = dict.fromkeys(_called(query, default_schema))
        for key in called:
            if key in known:
                yield from _findings(table, known[key], known, default_schema)


def _called(query: str, default_schema: str) -> Iterator[tuple[str, str]]:
    bare = code_of(query)
    call = _CALL.match(bare)
    for match in _CALLED.finditer(bare, call.end() if call else 0):
        if match[3] == "(" or (call and match.start() == call.end()):
            schema, name = ((part or "").strip("`").lower() for part in match.groups()[:2])
            yield schema or default_schema.lower(), name


def _findings(
    table: str, routine: Routine, known: Mapping[tuple[str, str], Routine], default_schema: str
) -> Iterator[Finding]:
    where = f"table {table}"
    title = f"the {routine.kind} {routine.name}"
    words = _writes(routine, known, default_schema, frozenset())
    if words:
        problem = f"{title} writes ({words}): it is not called for every lookup, because answers are remembered"
        yield Finding(Level.FAULT, "writes", where, problem, "let the query read only")
    elif routine.body is None and routine.access not in _READS:
        problem = f"this account cannot see whether {title} writes, which a query must not"
        title = f"`{routine.schema}`.`{routine.name}`"
        remedy = f"ALTER {routine.kind.upper()} {title} READS SQL DATA;"
        yield Finding(
            Level.WARNING, "unseen_routine", where, problem, f"if it only reads:\n{remedy}"
        )
    if routine.kind == "function" and not routine.deterministic:
        problem = f"{title} is NOT DETERMINISTIC: it may give another answer each time, and a remembered one stays"
        remedy = "if it depends on its arguments and tables alone, declare it DETERMINISTIC"
        yield Finding(Level.WARNING, "not_deterministic", where, problem, remedy)


def _writes(
    routine: Routine,
    known: Mapping[tuple[str, str], Routine],
    default_schema: str,
    above: frozenset[Routine],
) -> str:
    """Return the words with which a routine writes, itself or by one that it calls."""
    if routine in above:
        return ""
    if routine.body is None:
        return _MODIFIES if routine.access == _MODIFIES else ""
    words = writes(routine.body)
    if words:
        return words
    inner = re.findall(r"\bCALL\s+(?:`?\w+`?\.)?`?(\w+)`?", code_of(routine.body), re.IGNORECASE)
    names = [(routine.schema.lower(), name.lower()) for name in inner]
    names += list(_called(routine.body, routine.schema))
    for key in dict.fromkeys(names):
        if key in known:
            words = _writes(known[key], known, default_schema, above | {routine})
            if words:
                return f"{words}, by {known[key].name}"
    return ""
