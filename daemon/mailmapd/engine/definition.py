"""Definitions: what a table asks its database for one key, and what it keeps of the rows."""

from __future__ import annotations

from typing import Protocol

from mailmapd.cache.table_cache import Payload
from mailmapd.model import ResultSet
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.statement import Statement


class Definition(Protocol):
    """One query: from SQL keys to statements, from rows to what is worth keeping."""

    def statement(self, sql_key: bytes) -> Statement:
        """Return the query for a SQL key."""
        ...

    def payload(self, result: ResultSet) -> Payload | None:
        """Return what to keep of the rows, or None when they say "not found".

        Raises DataError when they cannot be used.
        """
        ...


class PostfixDefinition:
    """A query with mysql_table(5) meaning."""

    def __init__(self, template: MysqlTable) -> None:
        self.template = template
        self.statement = template.statement

    def payload(self, result: ResultSet) -> Payload | None:
        """Return the finished value, or the single values when `result_format` needs the key to finish them."""
        values = self.template.values(result)
        if not values:
            return None
        return values if self.template.result_depends_on_key else self.template.expand(b"", values)

    def value(self, key: bytes, payload: Payload) -> bytes | None:
        """Return the result for a key, as mysql_table(5) gives it.

        None is "not found". Raises DataError above `expansion_limit`.
        """
        return payload if isinstance(payload, bytes) else self.template.expand(key, payload)
