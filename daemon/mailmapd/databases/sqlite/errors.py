"""SQLite's result codes: whether the file, the query or the key is at fault. See https://www.sqlite.org/rescode.html.

Most mistakes in a query share one code with the failures of single values, so the text decides
between them; it is passed on only where it can name nothing but the template's identifiers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from mailmapd.errors import DatabaseError, DatabaseUnavailable, DataError, SchemaError

_FILE = {
    sqlite3.SQLITE_BUSY: "the file is locked by a writer",
    sqlite3.SQLITE_LOCKED: "a table is locked",
    sqlite3.SQLITE_PERM: "permission denied",
    sqlite3.SQLITE_AUTH: "permission denied",
    sqlite3.SQLITE_NOMEM: "out of memory",
    sqlite3.SQLITE_IOERR: "input/output error",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened; in WAL mode its folder must be writable "
    "or its -shm file there",
    sqlite3.SQLITE_PROTOCOL: "the file's lock cannot be had",
    sqlite3.SQLITE_SCHEMA: "the schema keeps changing",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database",
    sqlite3.SQLITE_INTERRUPT: "the query was interrupted",
}

_VALUES = {
    sqlite3.SQLITE_TOOBIG: "a value is too long",
    sqlite3.SQLITE_MISMATCH: "a value has the wrong type",
    sqlite3.SQLITE_RANGE: "a value is out of range",
}

_VALUE_PHRASES = (
    "pattern too complex",
    "integer overflow",
    "malformed JSON",
    "JSON path",
    "too big",
    "parser stack overflow",
    "too deep",
)
_NAMING_PHRASES = (
    "no such table: ",
    "no such column: ",
    "no such function: ",
    "ambiguous column name: ",
    "wrong number of arguments to ",
)


def translate(
    error: sqlite3.Error | sqlite3.Warning | ValueError,
    path: str,
    table: str,
    outside: Sequence[str] = (),
) -> DatabaseError:
    """Return what sqlite3's exception means for a statement of `table`; values `outside` stand outside strings."""
    text = str(error)
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _FILE:
        return DatabaseUnavailable(f"{path}: {_FILE[code]}", host=path)
    place = f"{path}: table {table}"
    if isinstance(error, sqlite3.DataError) and not hasattr(error, "sqlite_errorcode"):
        return DataError(f"{place}: {text}", host=path)  # of our own, see `bounded`
    if code in _VALUES:
        return DataError(f"{place}: {_VALUES[code]}", host=path)
    if code == sqlite3.SQLITE_READONLY:
        return SchemaError(
            f"{place}: the query writes, and the file is opened for reading only", host=path
        )
    if code != sqlite3.SQLITE_ERROR:
        return DatabaseError(f"{place}: the query failed (SQLite result code {code})", host=path)
    if (
        any(phrase in text for phrase in _VALUE_PHRASES)
        or isinstance(error, ValueError)
        or "null character" in text
    ):
        return DataError(f"{place}: the query cannot be evaluated for this key", host=path)
    return _mistake(text, path, place, outside)


def _mistake(text: str, path: str, place: str, outside: Sequence[str]) -> DatabaseError:
    """Return what a mistake in the SQL means: it is the template's, unless a value may have made it."""
    if outside and (
        not text.startswith(_NAMING_PHRASES) or any(value in text.lower() for value in outside)
    ):
        return DataError(
            f"{place}: the query has a mistake in its SQL, which may be a value that stands outside quotes",
            host=path,
        )
    if text.startswith(_NAMING_PHRASES):
        return SchemaError(f"{place}: {text}", host=path)
    if "one statement at a time" in text:
        return SchemaError(
            f"{place}: the query holds a second statement behind a semicolon; remove it", host=path
        )
    return SchemaError(f"{place}: the query has a mistake in its SQL", host=path)
