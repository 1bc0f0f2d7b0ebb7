"""The database account: whether it can log in at every host, and whether it may do more than it needs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailmapd.check.database_schema import quoted
from mailmapd.check.finding import Finding, Level
from mailmapd.databases.interface import Database
from mailmapd.databases.settings import ChangesSettings, MysqlSettings
from mailmapd.template.statement import Statement

_GRANT = re.compile(r"GRANT (?P<privileges>.+?) ON (?P<what>\S+(?: \S+)?) TO ", re.IGNORECASE)
_HARMLESS = frozenset(("USAGE", "SELECT", "EXECUTE", "SHOW VIEW", "SHOW DATABASES"))
_TO_SEE_FILTERS = frozenset(("BINLOG MONITOR", "REPLICATION CLIENT"))
_TO_FOLLOW = frozenset(("REPLICATION SLAVE",))


async def grants(database: Database) -> list[str]:
    """Return the account's grants. Raises DatabaseError."""
    result = await database.fetch(Statement("check", (b"SHOW GRANTS",)))
    return [(row[0] or b"").decode("utf-8", "replace") for row in result.rows]


def login_findings(
    name: str, settings: MysqlSettings, granted: list[str], changes: ChangesSettings
) -> Iterator[Finding]:
    """Yield what is wrong with an account that can log in."""
    where = f"database {name}"
    user = settings.user
    example = (
        "CREATE USER 'mailmapd'@'localhost' IDENTIFIED BY '…'; GRANT SELECT ON "
        f"{quoted(settings.dbname)}.* TO 'mailmapd'@'localhost';"
    )
    if user == "root":
        yield Finding(
            Level.FAULT,
            "root_account",
            where,
            "logs in as root, whose password opens every database",
            example,
        )
    if not settings.password and settings.option_file is None:
        yield Finding(
            Level.WARNING,
            "empty_password",
            where,
            f'the account "{user}" logs in without a password',
            "give it one",
        )
    needed = _HARMLESS if changes.follow == "no" else _HARMLESS | _TO_SEE_FILTERS
    if changes.follow != "no" and changes.user is None:
        needed |= _TO_FOLLOW
    excess = sorted({privilege for line in granted for privilege in _privileges(line)} - needed)
    if excess and user != "root":
        problem = f'the account "{user}" may do more than SELECT: {", ".join(excess[:6])}'
        yield Finding(Level.WARNING, "privileges", where, problem, f"{example}")


def _privileges(grant: str) -> Iterator[str]:
    match = _GRANT.match(grant)
    if match is None or match["privileges"].upper().startswith("PROXY"):
        return
    for privilege in re.split(r",\s*(?![^(]*\))", match["privileges"]):
        yield privilege.partition("(")[0].strip().upper()
