"""A dict over the memory database, for tests.

Passdb depends on user and service, userdb on the user, and two users are listed.
"""

from __future__ import annotations

from mailmapd.cache import TableCache
from mailmapd.config.schema import CacheSection
from mailmapd.engine.dicts.definition import DictDefinition
from mailmapd.engine.dicts.dict import Dict, DictTable
from mailmapd.engine.dicts.fields import PassdbFields, UserdbFields
from mailmapd.engine.dicts.iteration import Iteration
from mailmapd.engine.dicts.service import DictService
from mailmapd.engine.origin import QueryOrigin
from mailmapd.engine.table import Table
from mailmapd.model import ResultSet
from mailmapd.template.dovecot_key import DictKey
from mailmapd.template.dovecot_query import DovecotQuery
from mailmapd.template.statement import Statement
from support.memory_database import MemoryDatabase, Rows, Values

COLUMNS = {
    "auth.passdb": ("user", "password"),
    "auth.userdb": ("uid", "home"),
    "auth.iterate": ("user",),
}


class SampleDatabase(MemoryDatabase):
    """Gives the columns of the table that asks."""

    def __init__(self) -> None:
        super().__init__("mail", self.rows_of)
        self.users: list[bytes | None] = [b"alice@example.com", b"bob@example.com"]

    def rows_of(self, statement: Statement, values: Values) -> Rows:
        """Return the rows of one of the three queries."""
        user = values[0] if values else b""
        match statement.table:
            case "auth.passdb":
                return (
                    [(user, b"{PLAIN}secret")]
                    if user in self.users and values[1] != b"pop3"
                    else []
                )
            case "auth.userdb":
                return [(b"5000", b"/srv/" + user)] if user in self.users else []
            case _:
                return [(name,) for name in self.users]

    async def fetch(self, statement: Statement) -> ResultSet:
        """Return the rows under the table's column names."""
        return ResultSet(COLUMNS[statement.table], (await super().fetch(statement)).rows)


def sample_service(database: MemoryDatabase) -> DictService:
    """Return a service with the dicts `auth` (everything) and `bare` (nothing)."""
    passdb = _table(
        "passdb", "SELECT … '%u' … '%Ls'", PassdbFields("auth.passdb", "CRYPT"), database
    )
    userdb = _table("userdb", "SELECT … '%u'", UserdbFields("auth.userdb"), database)
    iteration = Iteration(
        "auth.iterate", DovecotQuery.compile("auth.iterate", "SELECT user FROM users"), database
    )
    service = DictService("dict", lambda: 0.0)
    service.serve(
        {
            "auth": Dict("auth", passdb=passdb, userdb=userdb, iteration=iteration),
            "bare": Dict("bare"),
        }
    )
    return service


def _table(namespace: str, text: str, fields: UserdbFields, database: MemoryDatabase) -> DictTable:
    query = DovecotQuery.compile(fields.table, text)
    definition = DictDefinition(query, fields)
    table = Table(
        fields.table,
        QueryOrigin(fields.table, definition, database, lambda: 0.0),
        TableCache(CacheSection()),
        lambda: 0.0,
        secret=True,
    )
    return DictTable(table, definition, DictKey.of(namespace, query))
