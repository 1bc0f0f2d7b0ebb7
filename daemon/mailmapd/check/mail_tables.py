"""Habits of mail databases that cost mail or passwords.

Names that exist once in all domains, passwords in plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mailmapd.check.database_schema import TableShape, quoted
from mailmapd.check.finding import Finding, Level
from mailmapd.databases.interface import Database
from mailmapd.errors import DataError, SchemaError
from mailmapd.template.statement import Statement

_USER_NAME = re.compile(r"user|name|login|local|account|no$", re.IGNORECASE)
_WORD = re.compile(r"\w+")
_DOMAIN_NAME = re.compile(r"domain", re.IGNORECASE)
_PASSWORD_NAME = re.compile(r"(?<!by)pass(?!.*(expir|change|date|time))|pwd", re.IGNORECASE)


async def unique_name_findings(
    name: str, database: Database, shapes: Iterable[TableShape]
) -> Iterable[Finding]:
    """Return tables whose unique key is a user name without its domain, though they have a column for the domain.

    Raises DatabaseError.
    """
    findings = []
    for shape in shapes:
        domain = next(
            (
                column
                for column in shape.columns
                if _DOMAIN_NAME.search(column) and shape.is_text(column)
            ),
            None,
        )
        for index in shape.indexes.values():
            column = index.columns[0]
            if (
                domain is None
                or not index.unique
                or len(index.columns) > 1
                or not shape.is_text(column)
                or column == domain
            ):
                continue
            if _USER_NAME.search(column) and await _holds_bare_names(database, shape.name, column):
                problem = f"{shape.name} has a unique key on {column} alone: a name can exist in one domain only"
                key = f"{quoted(domain)}, {quoted(column)}"
                remedy = (
                    f"ALTER TABLE {quoted(shape.name)} {_drop(index.name)}, ADD UNIQUE KEY ({key});"
                )
                findings.append(
                    Finding(
                        Level.WARNING, "one_name_one_domain", f"database {name}", problem, remedy
                    )
                )
    return findings


async def _holds_bare_names(database: Database, table: str, column: str) -> bool:
    value = quoted(column)
    sql = f"SELECT COUNT(*), SUM({value} LIKE '%@%') FROM {quoted(table)} WHERE {value} <> ''"
    result = await database.fetch(Statement("check", (sql.encode(),)))
    rows, addresses = result.rows[0]
    return rows != b"0" and addresses in (b"0", None)


def _drop(index: str) -> str:
    return "DROP PRIMARY KEY" if index == "PRIMARY" else f"DROP INDEX {quoted(index)}"


async def plain_password_findings(
    name: str,
    database: Database,
    shapes: Iterable[TableShape],
    queries_of_maps: Iterable[str],
    queries_of_hashes: Iterable[str] = (),
) -> Iterable[Finding]:
    """Return tables with passwords of logins in plain text.

    They stay in the server: only their number is asked for. A column that a map reads holds what
    Postfix logs in with at another server (smtp_sasl_password_maps), and must be plain. In one that
    a password query takes for hashes of its scheme, only those that say {PLAIN} are. Raises
    DatabaseError.
    """
    read_by_maps, hashed = _words(queries_of_maps), _words(queries_of_hashes)
    findings = []
    for shape in shapes:
        for column in shape.columns:
            if not _PASSWORD_NAME.search(column) or not shape.is_text(column):
                continue
            what = {shape.name.lower(), column.lower()}
            if any(what <= words for words in read_by_maps):
                continue
            value = quoted(column)
            plain = f"({value} LIKE '{{PLAIN}}%' OR {value} LIKE '{{CLEAR%}}%')"
            if not any(what <= words for words in hashed):
                plain = f"({plain} OR {value} NOT LIKE '{{%}}%')"
            sql = (
                f"SELECT COUNT(*) FROM {quoted(shape.name)} WHERE {value} <> '' AND {value} NOT LIKE '$%'"
                f" AND {plain} AND {value} NOT REGEXP '^([0-9a-fA-F]{{32,}}|[./0-9A-Za-z]{{13}})$'"
            )
            try:
                result = await database.fetch(Statement("check", (sql.encode(),)))
            except (SchemaError, DataError):
                continue  # a view that is broken; its query is a finding
            count = int((result.rows[0][0] or b"0").decode()) if result.rows else 0
            if count:
                problem = f"{shape.name}.{column} holds plain passwords, {count} of them"
                remedy = "replace each by the output of: doveadm pw -s BLF-CRYPT"
                findings.append(
                    Finding(Level.FAULT, "plain_passwords", f"database {name}", problem, remedy)
                )
    return findings


def _words(queries: Iterable[str]) -> list[set[str]]:
    return [set(_WORD.findall(text.lower())) for text in queries]
