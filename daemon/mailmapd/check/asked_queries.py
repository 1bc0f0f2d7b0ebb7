"""Every query of a configuration that can be tried: those of maps, and those of Dovecot's dicts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mailmapd.engine.dicts.definition import DictDefinition
from mailmapd.plan.assembly import Plan
from mailmapd.plan.dict_plan import DictPlan, PlannedTable
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.sql_lexer import code_of
from mailmapd.template.statement import Statement

_PROCEDURE = re.compile(r"\s*CALL\b", re.IGNORECASE)
_SCHEME = re.compile(r"['\"]\{([A-Za-z0-9.-]+)\}")
_PLAIN = ("PLAIN", "CLEAR", "CLEARTEXT", "PLAIN-TRUNC")
"""Dovecot's schemes of passwords that are no hashes."""

_LOGIN = {
    "service": b"imap",
    "secured": b"secured",
    "lip": b"127.0.0.1",
    "rip": b"127.0.0.1",
    "mech": b"PLAIN",
    "lport": b"143",
    "rport": b"1",
}
"""The variables that a login has besides its user, in Dovecot's words."""


@dataclass(frozen=True, slots=True)
class AskedQuery:
    """One query.

    `statement` makes it for a key, or None where no query would be sent. `by_key` is false for a
    list of all users. `user_fields` is what the names of user fields begin with, if Dovecot 2.4
    gets them. `of_map` is true for what Postfix asks, `hashed` for a password query whose values
    are hashes where they do not say what they are.
    """

    table: str
    text: str
    statement: Callable[[bytes], Statement | None]
    by_key: bool = True
    user_fields: str | None = None
    of_map: bool = False
    hashed: bool = False


def asked_queries(plan: Plan, database: str, texts: Mapping[str, str]) -> Iterator[AskedQuery]:
    """Yield the queries that go to a database, procedures left out: EXPLAIN does not look into them."""
    for name, used in plan.table_databases.items():
        if used == database and name in plan.tables and not _PROCEDURE.match(code_of(texts[name])):
            yield AskedQuery(name, texts[name], _of_map(plan.tables[name].template), of_map=True)
    for dict_plan in plan.dicts.dicts.values():
        for table in dict_plan.tables:
            if table.database == database and not _PROCEDURE.match(code_of(table.text)):
                yield AskedQuery(
                    table.name,
                    table.text,
                    _of_dict(table.definition),
                    by_key=table is not dict_plan.iterate,
                    user_fields=_user_fields(plan, dict_plan, table),
                    hashed=table is dict_plan.passdb
                    and _says_hashes(dict_plan.default_scheme, table.text),
                )


def query_texts_of(plan: Plan, database: str, texts: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of all queries that go to a database, by table, those that call procedures as well."""
    found = {name: texts[name] for name, used in plan.table_databases.items() if used == database}
    for dict_plan in plan.dicts.dicts.values():
        found |= {
            table.name: table.text for table in dict_plan.tables if table.database == database
        }
    return found


def _says_hashes(default_scheme: str, query: str) -> bool:
    """Return whether a password without ``{SCHEME}`` is a hash, by default or by what the query puts before it."""
    written = _SCHEME.findall(query)
    return all(scheme.upper() not in _PLAIN for scheme in written or [default_scheme])


def _user_fields(plan: Plan, dict_plan: DictPlan, table: PlannedTable) -> str | None:
    if plan.config.listen.lookup_http is None or table is dict_plan.iterate:
        return None
    return "userdb_" if table is dict_plan.passdb else ""


def _of_map(template: MysqlTable) -> Callable[[bytes], Statement | None]:
    def statement(key: bytes) -> Statement | None:
        sql_key = template.sql_key(key)
        return None if sql_key is None else template.statement(sql_key)

    return statement


def _of_dict(definition: DictDefinition) -> Callable[[bytes], Statement | None]:
    def statement(key: bytes) -> Statement | None:
        sql_key = definition.query.sql_key({**_LOGIN, "user": key})
        return None if sql_key is None else definition.statement(sql_key)

    return statement
