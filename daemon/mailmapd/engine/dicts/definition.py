"""Dict definitions: what a dict's table asks its database for one user, and what it keeps of the row.

The query is either Dovecot's (`dovecot_query`, dovecot-sql.conf.ext), with all of its variables, or
one with mysql_table(5) meaning, where the key is the user name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from mailmapd.engine.dicts.fields import UserdbFields
from mailmapd.model import ResultSet
from mailmapd.template.dovecot_query import DovecotQuery
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.statement import Statement


class UserQuery(Protocol):
    """A query about one user, depending on the values of variables."""

    @property
    def identity(self) -> bool:
        """Return whether the SQL key of every user name is the name itself (if it is not empty and holds no NUL)."""
        ...

    def sql_key(self, values: Mapping[str, bytes]) -> bytes | None:
        """Return the part of the values that the SQL depends on.

        None: no query is sent, the user is definitely not there.
        """
        ...

    def statement(self, sql_key: bytes) -> Statement:
        """Return the query for a SQL key."""
        ...

    def about(self, user: bytes) -> Callable[[bytes], bool]:
        """Return what tells of a SQL key whether its entry may be about the user."""
        ...

    def concerns(self, sql_key: bytes, user: bytes) -> bool:
        """Return whether an entry under the SQL key may be about the user."""
        ...


@dataclass(frozen=True)
class PostfixUserQuery:
    """A query with mysql_table(5) meaning, asked for the user name."""

    template: MysqlTable

    @property
    def identity(self) -> bool:
        """Return whether the SQL key of every user name is the name itself."""
        return self.template.identity

    def statement(self, sql_key: bytes) -> Statement:
        """Return the query for a SQL key."""
        return self.template.statement(sql_key)

    def sql_key(self, values: Mapping[str, bytes]) -> bytes | None:
        """Return mysql_table(5)'s SQL key of the user name."""
        return self.template.sql_key(values["user"]) if values["user"] else None

    def about(self, user: bytes) -> Callable[[bytes], bool]:
        """Return what tells whether a SQL key is the user's."""
        own = self.template.sql_key(user) if user else None
        return lambda sql_key: sql_key == own

    def concerns(self, sql_key: bytes, user: bytes) -> bool:
        """Return whether the entry is the user's."""
        return self.about(user)(sql_key)


@dataclass(frozen=True)
class DictDefinition:
    """One query of a dict with the reader of its rows.

    Equal definitions keep the same payloads under the same SQL keys.
    """

    query: DovecotQuery | PostfixUserQuery
    fields: UserdbFields

    def statement(self, sql_key: bytes) -> Statement:
        """Return the query for a SQL key."""
        return self.query.statement(sql_key)

    def payload(self, result: ResultSet) -> bytes | None:
        """Return the JSON object of the row, or None for no row.

        Raises DataError or SchemaError when the rows cannot be used.
        """
        return self.fields.read(result)
