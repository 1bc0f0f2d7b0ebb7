"""Layouts of SQL keys, made of the parts of a key: the way back from what a row says to the entries of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from mailmapd.engine.definition import Definition, PostfixDefinition
from mailmapd.engine.dicts.definition import DictDefinition, PostfixUserQuery
from mailmapd.provenance.match import Parts
from mailmapd.provenance.reading import Query
from mailmapd.template.dovecot_query import DovecotQuery
from mailmapd.template.mysql_table import MysqlTable


class KeyLayout(Protocol):
    """The layout of one query's SQL keys."""

    @property
    def query(self) -> Query:
        """Return the query with its holes."""
        ...

    def key(self, parts: Mapping[str, bytes]) -> bytes | None:
        """Return the SQL key that has exactly these parts, or None when they do not say all of it."""
        ...

    def parts(self, sql_key: bytes) -> Parts:
        """Return the parts of a SQL key; one that cannot have been asked has none."""
        ...


class PostfixLayout:
    """mysql_table(5): a whole key, a domain, or a local part with labels of the domain."""

    def __init__(self, template: MysqlTable) -> None:
        self._template = template
        self.query: Query = template.holes()

    def key(self, parts: Mapping[str, bytes]) -> bytes | None:
        """Return the SQL key of these parts."""
        return self._template.sql_key_of(parts)

    def parts(self, sql_key: bytes) -> Parts:
        """Return what every expansion of the query stands for."""
        return self._template.parts_of(sql_key)


class DovecotLayout:
    """Dovecot: the value of every different use of a variable, in order."""

    def __init__(self, query: DovecotQuery) -> None:
        self._count = len(query.uses)
        self.query: Query = query.holes()

    def key(self, parts: Mapping[str, bytes]) -> bytes | None:
        """Return the SQL key of these values."""
        if len(parts) < self._count:
            return None
        return b"\0".join(parts[str(number)] for number in range(self._count))

    def parts(self, sql_key: bytes) -> Parts:
        """Return the value of each use."""
        values = sql_key.split(b"\0") if self._count else []
        return {str(number): value for number, value in enumerate(values)}


def layout_of(definition: Definition) -> KeyLayout:
    """Return the layout of a table's SQL keys."""
    if isinstance(definition, PostfixDefinition):
        return PostfixLayout(definition.template)
    if isinstance(definition, DictDefinition):
        query = definition.query
        if isinstance(query, PostfixUserQuery):
            return PostfixLayout(query.template)
        return DovecotLayout(query)
    raise TypeError(f"a definition of an unknown kind: {type(definition).__name__}")
