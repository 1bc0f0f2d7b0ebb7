"""A database's tables as information_schema tells them: columns and indexes."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailmapd.databases.interface import Database
from mailmapd.template.statement import Statement

_COLUMNS = (
    b"SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = DATABASE()"
    b" ORDER BY table_name, ordinal_position"
)
_INDEXES = (
    b"SELECT table_name, index_name, column_name, non_unique FROM information_schema.statistics "
    b"WHERE table_schema = DATABASE()"
    b" ORDER BY table_name, index_name, seq_in_index"
)
_LONGEST_NAME = 64  # characters of a name in MySQL and MariaDB
_TEXT_TYPES = frozenset(("char", "varchar", "tinytext", "text", "mediumtext", "longtext"))


@dataclass(frozen=True, slots=True)
class Index:
    """One index: its columns in order, and whether it is unique."""

    name: str
    columns: tuple[str, ...]
    unique: bool


@dataclass(slots=True)
class TableShape:
    """One table: columns with their types, and indexes."""

    name: str
    columns: dict[str, str] = field(default_factory=dict)
    indexes: dict[str, Index] = field(default_factory=dict)

    def is_text(self, column: str) -> bool:
        """Return whether a column holds text."""
        return self.columns.get(column) in _TEXT_TYPES

    def index_on(self, column: str) -> str:
        """Return the statement that makes an index on a column; of a long text the beginning is enough."""
        length = "(64)" if self.columns[column].endswith("text") else ""
        index = quoted(f"{column[: _LONGEST_NAME - len('_lookup')]}_lookup")
        return f"CREATE INDEX {index} ON {quoted(self.name)} ({quoted(column)}{length});"

    def leads_index(self, column: str) -> bool:
        """Return whether some index begins with the column."""
        return any(index.columns[:1] == (column,) for index in self.indexes.values())


def quoted(name: str, quote: str = "`") -> str:
    """Return a name as SQL takes it, whatever it is: a reserved word, with blanks, hyphens or quotes in it."""
    return f"{quote}{name.replace(quote, quote * 2)}{quote}"


def quoted_text(text: str) -> str:
    """Return a text in SQL's quotes, such as the name of an account."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


async def read_schema(database: Database) -> dict[str, TableShape]:
    """Return the tables that the account may see, by name. Raises DatabaseError."""
    shapes: dict[str, TableShape] = {}
    for row in (await database.fetch(Statement("check", (_COLUMNS,)))).rows:
        table, column, kind = (_text(value) for value in row)
        shapes.setdefault(table, TableShape(table)).columns[column] = kind
    for row in (await database.fetch(Statement("check", (_INDEXES,)))).rows:
        table, name, column, non_unique = (_text(value) for value in row)
        shape = shapes.get(table)
        if shape is not None:
            known = shape.indexes.get(name)
            shape.indexes[name] = Index(
                name, (*(known.columns if known else ()), column), non_unique == "0"
            )
    return shapes


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "surrogateescape")
