"""Names of users for a dict that cannot list them: those that the rows of its queries are about.

    username = '%u'                      the values of the column
    local = '%n' AND domain = '%d'       both of each row, with an @ between them
    CONCAT(local, '@', domain) = '%u'    whatever looks like an address in the query's tables

A name that is no user's costs a question, and is unknown to both sides.
"""

from __future__ import annotations

import re

from mailmapd.config.schema import Config
from mailmapd.databases.interface import Database
from mailmapd.engine.dicts.definition import PostfixUserQuery
from mailmapd.plan.assembly import assemble, plan
from mailmapd.plan.dict_plan import PlannedTable
from mailmapd.template.dovecot_query import DovecotQuery
from mailmapd.template.statement import Statement
from mailmapd.verify.compared_values import columns_of, compared_columns, compared_values
from mailmapd.verify.key_sources import Keys, keys_of_database, quoted

_LETTERS = {"": "s", "username": "u", "domain": "d"}


async def names_of_users(config: Config, table: PlannedTable) -> list[bytes]:
    """Return the names that a table's database has, each once. Raises DatabaseError."""
    engine = assemble(plan(config)).engine
    text = _in_postfix_words(table)
    keys = Keys()
    try:
        database = engine.databases[table.database]
        names = await compared_values(database, re.sub("%[ud]", "", text))
        names |= dict.fromkeys(await _joined_names(database, text))
        await keys_of_database(database, [text], keys)
    finally:
        await engine.close()
    return list(names | keys.addresses)


def _in_postfix_words(table: PlannedTable) -> str:
    """Return a query's text with %s, %u and %d for the user's name and its parts, and without other variables."""
    query = table.definition.query
    if isinstance(query, PostfixUserQuery):
        return table.text
    return "".join(
        piece if isinstance(piece, str) else _word(query, int(piece.part))
        for piece in query.holes()
    )


def _word(query: DovecotQuery, number: int) -> str:
    use = query.uses[number]
    letter = _LETTERS.get(use.part) if use.name == "user" and not use.width else None
    return "" if letter is None else f"%{letter}"


async def _joined_names(database: Database, text: str) -> list[bytes]:
    """Return the names that two columns of a row make, where a query compares both parts of a name."""
    locals_ = compared_columns(re.sub("%[sd]", "", text))
    domains = compared_columns(re.sub("%[su]", "", text))
    found: list[bytes] = []
    for table, columns in (await columns_of(database, text)).items():
        lower = {column.lower(): column for column in columns}
        for local in lower.keys() & set(locals_):
            for domain in lower.keys() & set(domains):
                one, other = quoted(lower[local]), quoted(lower[domain])
                sql = f"SELECT DISTINCT CONCAT({one}, '@', {other}) FROM {quoted(table)}"
                async for _, rows in database.stream(
                    Statement("verify", (sql.encode("utf-8", "surrogateescape"),))
                ):
                    found += [value for (value,) in rows if value]
    return found
