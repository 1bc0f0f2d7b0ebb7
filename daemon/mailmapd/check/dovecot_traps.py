"""Dicts that lack what Dovecot needs, and queries that give too much away.

Sockets, the password column, variables that defeat a cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailmapd.check.finding import Finding, Level
from mailmapd.config.schema import Config
from mailmapd.plan.dict_plan import DictPlan, PlannedTable
from mailmapd.template.dovecot_query import DovecotQuery
from mailmapd.template.sql_lexer import code_of, without_comments

_PASSWORD = re.compile(r"\bpassword(_noscheme)?\b", re.IGNORECASE)
_QUOTED_NAME = re.compile(r"['\"]password(_noscheme)?['\"]", re.IGNORECASE)
"""A column's name as text: ``SELECT hash AS 'password'``."""
_PROCEDURE = re.compile(r"\s*CALL\b", re.IGNORECASE)
_EVERYTHING = re.compile(r"SELECT\s+([\w.]+\.)?\*", re.IGNORECASE)


def dovecot_findings(config: Config, plans: dict[str, DictPlan]) -> Iterator[Finding]:
    """Yield what is wrong with the dicts."""
    if plans and not config.listen.dicts and config.listen.lookup_http is None:
        remedy = (
            'Dovecot 2.3: dict = [{address = "unix:/run/mailmapd/dict", group = "dovecot"}]\n'
            'Dovecot 2.4: lookup_http = {address = "unix:/run/mailmapd/lookup", group = "dovecot"}'
        )
        yield Finding(Level.FAULT, "dict_unserved", "listen", "no socket serves the dicts", remedy)
    for plan in plans.values():
        for table in plan.tables:
            yield from _variables(table)
        if plan.passdb is not None and not _may_give_password(plan.passdb.text):
            problem = "the query names no column password, so that nobody can log in"
            yield Finding(
                Level.FAULT,
                "no_password",
                f"table {plan.passdb.name}",
                problem,
                "select the hash AS password",
            )


def _may_give_password(query: str) -> bool:
    """Return whether a column may be called password; of a procedure's columns its call says nothing."""
    code = code_of(query)
    named = _PASSWORD.search(code) or _QUOTED_NAME.search(without_comments(query))
    return bool(named or _EVERYTHING.search(code) or _PROCEDURE.match(code))


def _variables(table: PlannedTable) -> Iterator[Finding]:
    query = table.definition.query
    if not isinstance(query, DovecotQuery):
        return
    where = f"table {table.name}"
    if query.per_login:
        names = ", ".join(f"%{{{name}}}" for name in sorted(query.per_login))
        problem = (
            f"the query uses {names}, which differ at every login: its answers are never used again"
        )
        yield Finding(
            Level.WARNING,
            "per_login",
            where,
            problem,
            "leave them out, or keep this query in Dovecot",
        )
    for name in sorted(query.bare_sources):
        problem = (
            f"the query uses a value of %{{{name}}} without quotes: every value but "
            "letters, digits and _ is a temporary failure"
        )
        level = Level.WARNING if name == "user" else Level.NOTE
        yield Finding(
            level,
            "unquoted_variable",
            where,
            problem,
            "write quotes around it, unless it is part of a column's name",
        )
