"""User fields that a dict's queries return, and what Dovecot 2.4 makes of them: by their names and in a few rows.

2.4 ignores names of 2.3 that it no longer has; mailmapd translates what has an equal and refuses
the rest, see `web.dovecot_fields`. That a query returns such a field should be known before the
first user cannot log in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from mailmapd.check.finding import Finding, Level
from mailmapd.config.schema import Config
from mailmapd.errors import DataError
from mailmapd.model import ResultSet
from mailmapd.plan.dict_plan import DictPlan
from mailmapd.web.dovecot_fields import ignored_by_dovecot24, translate

_RETURNED = re.compile(
    r"\bAS\s+[`'\"]?(\w+)|(?:\bSELECT|,)\s*(?:`?\w+`?\.)?`?(\w+)`?\s*(?=,|\bFROM\b)", re.IGNORECASE
)
_REMEDY = "write the setting into Dovecot's configuration, and remove the column"


def ignored_name_findings(config: Config, plans: Iterable[DictPlan]) -> Iterator[Finding]:
    """Yield the columns whose name alone means that Dovecot 2.4 gets a failure."""
    if config.listen.lookup_http is None:
        return
    for plan in plans:
        for table, prefix in ((plan.passdb, "userdb_"), (plan.userdb, "")):
            if table is None:
                continue
            names = dict.fromkeys(
                first or second for first, second in _RETURNED.findall(table.text)
            )
            for name in names:
                if name.startswith(prefix) and ignored_by_dovecot24(name.removeprefix(prefix)):
                    problem = f"{name} is ignored by Dovecot 2.4: each user with a value has a temporary failure there"
                    yield _finding(table.name, problem)


def row_findings(table: str, prefix: str, results: Iterable[ResultSet]) -> Iterator[Finding]:
    """Yield what 2.4 has no field for in rows of a query; each problem once."""
    problems: dict[str, None] = {}
    for result in results:
        for row in result.rows:
            for name, value in zip(result.columns, row, strict=True):
                if value is None or not name.startswith(prefix):
                    continue
                try:
                    translate(name.removeprefix(prefix), value.decode("utf-8", "replace"))
                except DataError as error:
                    problems.setdefault(str(error))
    for problem in problems:
        yield _finding(table, f"{problem}; over Dovecot 2.4 such a user has a temporary failure")


def _finding(table: str, problem: str) -> Finding:
    return Finding(Level.FAULT, "field_of_23", f"table {table}", problem, _REMEDY)
