"""The queries of SQLite files, each explained by SQLite: what cannot be opened or asked, and what reads a whole table.

EXPLAIN QUERY PLAN says in words what a query would do, see https://www.sqlite.org/eqp.html:

    SCAN alias                                        every row is read
    SEARCH alias USING INDEX alias_address (address=?)
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable

from mailmapd.check.asked_queries import AskedQuery
from mailmapd.check.database_schema import quoted
from mailmapd.check.finding import Finding, Level
from mailmapd.databases.settings import SqliteSettings
from mailmapd.databases.sqlite.database import SqliteDatabase
from mailmapd.errors import DatabaseError, DataError, SchemaError
from mailmapd.template.sql_lexer import without_comments
from mailmapd.template.statement import Statement

_SAMPLE = b"user@example.com"
_SCAN = re.compile(r"SCAN (?:TABLE )?(\w+)")
_COMPARED = re.compile(r"`?(\w+)`?\s*=\s*'%[sSdDuUn]'")


async def sqlite_findings(
    name: str, settings: SqliteSettings, queries: Iterable[AskedQuery]
) -> AsyncIterator[Finding]:
    """Yield what is wrong with a SQLite file and the queries that go to it."""
    database = SqliteDatabase(name, settings)
    try:
        await database.fetch(Statement("check", (b"SELECT 1",)))
        for query in queries:
            async for finding in _query_findings(database, query):
                yield finding
    except DatabaseError as error:
        yield Finding(
            Level.FAULT,
            "database",
            f"database {name}",
            str(error),
            "check path, and whether the daemon's user may read the file",
        )
    finally:
        await database.close()


async def _query_findings(database: SqliteDatabase, query: AskedQuery) -> AsyncIterator[Finding]:
    where = f"table {query.table}"
    try:
        statement = query.statement(_SAMPLE)
        if statement is None:
            return
        plan = await database.fetch(
            Statement(query.table, (b"EXPLAIN QUERY PLAN ", *statement.pieces))
        )
    except (SchemaError, DataError) as error:
        yield Finding(Level.FAULT, "query_refused", where, str(error), "correct the query")
        return
    scanned = [
        match[1]
        for row in plan.rows
        for match in _SCAN.finditer((row[-1] or b"").decode("utf-8", "replace"))
    ]
    compared = _COMPARED.search(without_comments(query.text, sqlite=True))
    if scanned and compared is not None and query.by_key:
        column = compared[1]
        problem = f"each query reads all of {' and '.join(scanned)}"
        names = (f"{column}_lookup", scanned[0], column)
        index, table, of = [quoted(name, '"') for name in names]
        remedy = f"CREATE INDEX {index} ON {table} ({of});"
        yield Finding(Level.WARNING, "missing_index", where, problem, remedy)
