"""Readers: for each base table of a database, the tables of the engine whose answers its rows may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mailmapd.changes.catalog import Catalog, Name
from mailmapd.changes.layout import KeyLayout, layout_of
from mailmapd.engine.definition import Definition
from mailmapd.errors import DatabaseError
from mailmapd.provenance.analysis import analyse, check_mode
from mailmapd.provenance.reading import CannotTell, Reading


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """A table of the engine at one place where its query reads a base table.

    `slots` are the places of the base table's columns in a row image, `types` their data types, by name. Worked out of
    them once for all rows: the slots that the query `mentions`, those that are `compared` with the key, and whether a
    row `names_keys`.
    """

    table: str
    layout: KeyLayout
    reading: Reading
    slots: Mapping[str, int]
    types: Mapping[str, str]
    mentions: tuple[int, ...] = field(init=False)
    compared: tuple[int, ...] = field(init=False)
    names_keys: bool = field(init=False)

    def __post_init__(self) -> None:
        reading, slots = self.reading, self.slots
        mentions = tuple(slots[column] for column in reading.columns)
        compared = tuple(slots[column] for column in reading.bound)
        object.__setattr__(self, "mentions", mentions)
        object.__setattr__(self, "compared", compared)
        object.__setattr__(self, "names_keys", reading.grade == "key")


@dataclass(slots=True)
class Readers:
    """The readers of one server's tables; `followed` are the engine's tables that are known completely.

    `views` are the names of the views that they read through.
    """

    by_table: dict[Name, list[Reader]] = field(default_factory=dict)
    ordinals: dict[Name, tuple[int, ...]] = field(default_factory=dict)
    widths: dict[Name, int] = field(default_factory=dict)
    children: dict[Name, set[Name]] = field(default_factory=dict)
    views: set[str] = field(default_factory=set)
    followed: set[str] = field(default_factory=set)
    not_followed: dict[str, str] = field(default_factory=dict)

    def wanted(self, schema: str, table: str, count: int) -> tuple[int, ...] | None:
        """Return the ordinals of the columns to read of a table's rows, or None when nobody reads it.

        A table that has another number of columns than the catalog says was altered: none of its columns are sure.
        """
        name = (schema, table)
        if name in self.by_table:
            return self.ordinals[name] if count == self.widths[name] else ()
        return () if name in self.children else None

    def tables_of(self, name: Name) -> set[str]:
        """Return the engine's tables whose queries read a base table."""
        return {reader.table for reader in self.by_table.get(name, ())}

    def parents_of(self, table: str) -> set[Name]:
        """Return the base tables whose rows change rows that a table of the engine reads, by way of foreign keys."""
        return {
            parent
            for parent, children in self.children.items()
            if any(table in self.tables_of(child) for child in children)
        }

    def same(self, other: Readers, table: str) -> bool:
        """Return whether a table of the engine is followed in both, and reads the same in the same way.

        Rows of a parent that was not known as one were passed over.
        """
        if table not in self.followed or table not in other.followed:
            return False
        if self.parents_of(table) != other.parents_of(table):
            return False
        mine, theirs = self._of(table), other._of(table)
        return mine == theirs

    def _of(self, table: str) -> list[tuple[Name, Reading, Mapping[str, int], tuple[int, ...]]]:
        return [
            (name, reader.reading, reader.slots, self.ordinals[name])
            for name, readers in sorted(self.by_table.items())
            for reader in readers
            if reader.table == table
        ]

    def names(self) -> set[Name]:
        """Return every base table that matters."""
        return set(self.by_table) | set(self.children)


def find_readers(
    definitions: Mapping[str, Definition], catalog: Catalog, default_schema: str
) -> Readers:
    """Return who reads what, of the given tables of the engine; those that cannot be followed with the reason."""
    readings: dict[str, tuple[KeyLayout, tuple[Reading, ...]]] = {}
    found = Readers()
    for table, definition in definitions.items():
        layout = layout_of(definition)
        try:
            check_mode(layout.query, catalog.sql_mode)
            provenance = analyse(layout.query, default_schema, catalog)
            parents = {name: catalog.cascading_parents(*name) for name in provenance.tables}
        except (CannotTell, DatabaseError) as error:
            found.not_followed[table] = str(error)
            continue
        for name, above in parents.items():
            for parent in above:
                found.children.setdefault(parent, set()).add(name)
        readings[table] = layout, provenance.readings
        found.views |= {name for _, name in provenance.views}
        found.followed.add(table)
    columns: dict[Name, set[str]] = {}
    for _, of_table in readings.values():
        for reading in of_table:
            columns.setdefault((reading.schema, reading.table), set()).update(reading.columns)
    slots: dict[Name, dict[str, int]] = {}
    types: dict[Name, dict[str, str]] = {}
    for name, wanted in columns.items():
        known = catalog.columns(*name) or {}
        ordered = sorted(wanted, key=lambda column: known[column].ordinal)
        found.ordinals[name] = tuple(known[column].ordinal for column in ordered)
        found.widths[name] = len(known)
        slots[name] = {column: slot for slot, column in enumerate(ordered)}
        types[name] = {column: known[column].type for column in ordered}
    for table, (layout, of_table) in readings.items():
        for reading in of_table:
            name = (reading.schema, reading.table)
            reader = Reader(table, layout, reading, slots[name], types[name])
            found.by_table.setdefault(name, []).append(reader)
    return found
