"""From an event of the log to what it touches.

A row that changed in no column that a query mentions touches nothing of it. Otherwise both images count, before and
after: each says by the reading's alternatives which keys it can matter to. Values that are not printable ASCII, and
columns that an image does not have, restrict nothing. Where no alternative names a part of the key, the reverse query
is asked later (see `Asking`), or all of the table is touched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from mailmapd.changes.catalog import Name
from mailmapd.changes.readers import Reader, Readers
from mailmapd.changes.touched import SomeParts, Touched
from mailmapd.databases.mysql.binlog.events import (
    ABSENT,
    Change,
    Event,
    Image,
    Kind,
    NotUnderstood,
    RowsChanged,
    RowsUnreadable,
    StatementLogged,
)
from mailmapd.provenance.match import Parts, normal, parts_of
from mailmapd.provenance.reading import Binding
from mailmapd.template.sql_lexer import without_comments

_HARMLESS = re.compile(
    r"\s*((BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|XA\s+(START|BEGIN|END|PREPARE|ROLLBACK))\b|\Z)",
    re.IGNORECASE,
)
_NAMES_ALL = re.compile(
    r"\s*(CREATE|ALTER|DROP|RENAME|TRUNCATE|OPTIMIZE|REPAIR|FLUSH|GRANT|REVOKE"
    r"|ANALYZE(\s+(NO_WRITE_TO_BINLOG|LOCAL))?\s+TABLES?)\b",
    re.IGNORECASE,
)
"""Statements that name every table in which they change anything. Any other may do so in a function that it calls."""

_OF_EVERYTHING = re.compile(r"\b(VIEW|DATABASE|SCHEMA)\b", re.IGNORECASE)
"""A view may read other tables after it was replaced than those that the statement names."""

_LONGEST = 320
"""The most characters of an address: a longer value of a column restricts nothing, and is compared with no pattern."""

_WAYS = 512
"""In how many ways a row may fit an alternative; one that fits in more restricts nothing."""

_WORD = re.compile(r"[\w$-]+")
_PLAIN_WORD = re.compile(r"[\w$]+")
_MARK = re.compile("['\"`#/-]")
_READ = 8 * 1024  # characters of the longest statement that is read, in about a millisecond, and …
_MOST_MARKS = 1000  # … the marks, of quotes and comments, that it may have


class Asking(NamedTuple):
    """A reverse query to be asked for a row: its reader, and the row's values by column."""

    reader: Reader
    row: tuple[tuple[str, bytes | None], ...]

    @property
    def size(self) -> int:
        """Return how many bytes its values have."""
        return sum([len(value) for _, value in self.row if value is not None])


class Selection:
    """Tells what events touch. `asking` collects the reverse queries that are due; whoever asks them empties it."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self.asking: set[Asking] = set()
        self.altered: set[Name] = set()  # by DDL that the readers may not know of
        self._altered_again: set[Name] = set()  # since the catalog is being read

    def begin_reading(self) -> None:
        """Note that the catalog is read from now on: it knows of what was altered before."""
        self._altered_again.clear()

    def with_readers(self, readers: Readers) -> Selection:
        """Return a selection by what the catalog says now."""
        new = Selection(readers)
        new.altered |= self._altered_again
        return new

    def add(self, event: Event, touched: Touched) -> bool:
        """Add what an event touches; return whether the tables themselves may be others now (DDL)."""
        match event:
            case RowsChanged(schema, table, kind, changes, _):
                self._add_rows((schema, table), kind, changes, touched)
            case RowsUnreadable(schema, table):
                self._add_base_table((schema, table), touched)
            case StatementLogged(_, sql, _):
                return self._add_statement(sql, touched)
            case NotUnderstood(reason, _):
                touched.add_everything(reason)
            case _:
                pass
        return False

    def _add_base_table(self, name: Name, touched: Touched) -> None:
        for reached in (name, *self._readers.children.get(name, ())):
            for table in self._readers.tables_of(reached):
                touched.add_table(table)

    def _add_statement(self, sql: str, touched: Touched) -> bool:
        """Take a statement for what it names: words that are names of tables, never its grammar."""
        if len(sql) <= _READ and _HARMLESS.match(sql):
            return False
        if len(sql) > _READ or next(islice(_MARK.finditer(sql), _MOST_MARKS, None), None):
            touched.add_everything("a statement that is too long to be read")
            self._add_altered(self._readers.names())
            return True
        bare = without_comments(sql)
        versioned = "/*!" in sql or "/*M!" in sql  # a comment for other servers
        if _HARMLESS.match(bare) and not versioned:
            return False
        words = _words(sql)
        if (
            not _NAMES_ALL.match(bare)
            or versioned
            or _OF_EVERYTHING.search(sql)
            or any(_may_name(words, view) for view in self._readers.views)
        ):
            touched.add_everything("a statement that is logged as text")
            self._add_altered(self._readers.names())
            return True
        for name in self._readers.names():
            if _may_name(words, name[1]):
                self._add_base_table(name, touched)
                self._add_altered({name})
        return True

    def _add_altered(self, names: set[Name]) -> None:
        """Note that rows of these tables may mean anything until the catalog has been read."""
        self.altered |= names
        self._altered_again |= names

    def _add_rows(self, name: Name, kind: Kind, changes: list[Change], touched: Touched) -> None:
        if name in self.altered:
            self._add_base_table(name, touched)
        if kind is not Kind.INSERT:
            for child in self._readers.children.get(name, ()):
                for table in self._readers.tables_of(child):
                    touched.add_table(table)
        for reader in self._readers.by_table.get(name, ()):
            for change in changes:
                if reader.table in touched.whole:
                    break
                for image in _images(reader, change):
                    self._add_image(reader, image, touched)

    def _add_image(self, reader: Reader, image: Image, touched: Touched) -> None:
        if (
            not image
        ):  # the table has other columns than those that are known: DDL will say so, too late
            touched.add_table(reader.table)
            return
        for alternative in reader.reading.alternatives:
            for parts in _fitting(alternative, image, reader.slots):
                self._add_parts(reader, parts, image, touched)

    def _add_parts(self, reader: Reader, parts: Parts, image: Image, touched: Touched) -> None:
        if not parts:
            row = _plain_row(image, reader.slots)
            if reader.reading.reverse is None or row is None:
                touched.add_table(reader.table)
            else:
                self.asking.add(Asking(reader, row))
            return
        add_parts(reader, parts, touched)


def _words(sql: str) -> set[str]:
    """Return the words of a statement; a hyphen may be a part of a name, or begin a comment behind it."""
    words = set(_PLAIN_WORD.findall(sql.lower()))
    for word in _WORD.findall(sql.lower()):
        words |= {word, word.rstrip("-")}
    return words


def _may_name(words: set[str], name: str) -> bool:
    """Return whether these words of a statement may mean a table or view."""
    return name.lower() in words or not _WORD.fullmatch(name.lower())


def add_parts(reader: Reader, parts: Parts, touched: Touched) -> None:
    """Add the keys that have these parts: one, if they say all of it."""
    sql_key = reader.layout.key(parts)
    if sql_key is None:
        some: SomeParts = tuple(sorted(parts.items()))
        touched.add_parts(reader.table, some)
        return
    if len(parts) > 1:  # of a single part the key says nothing else
        said = reader.layout.parts(sql_key)
        if any(said.get(name) != value for name, value in parts.items()):
            return  # no key has these parts together
    touched.add_key(reader.table, sql_key)


def _images(reader: Reader, change: Change) -> tuple[Image, ...]:
    """Return the images of a change that matter to a reader; none when no column that it mentions has changed."""
    before, after = change
    if before is None or after is None:
        return (before or after or (),)
    if not before:
        return ((),)
    for slot in reader.mentions:
        if after[slot] != before[slot] and after[slot] is not ABSENT:
            break
    else:
        return ()
    filled = after
    if ABSENT in after:
        filled = tuple(
            [old if new is ABSENT else new for old, new in zip(before, after, strict=True)]
        )
    if reader.names_keys:
        for slot in reader.compared:
            if before[slot] != filled[slot]:
                break
        else:
            return (filled,)
    return filled, before


def _fitting(
    alternative: tuple[Binding, ...], image: Image, slots: Mapping[str, int]
) -> list[Parts]:
    """Return the parts of keys for which a row fits an alternative; empty parts stand for every key."""
    found: list[Parts] = [{}]
    for binding in alternative:
        raw = image[slots[binding.column]]
        if raw is ABSENT:
            continue
        if raw is None:
            return []  # NULL equals nothing
        value = normal(raw) if len(raw) <= _LONGEST else None
        if value is None:
            continue
        fitting = list(islice(parts_of(binding.pattern, value), _WAYS + 1))
        if len(fitting) * len(found) > _WAYS:
            continue
        if len(alternative) == 1:
            return fitting
        found = [
            {**known, **more}
            for known in found
            for more in fitting
            if all(known[name] == more[name] for name in known.keys() & more.keys())
        ]
        if not found:
            break
    return found


def _plain_row(
    image: Image, slots: Mapping[str, int]
) -> tuple[tuple[str, bytes | None], ...] | None:
    """Return the row's values by column, or None when the image lacks one."""
    row = []
    for column, slot in slots.items():
        value = image[slot]
        if value is ABSENT:
            return None
        row.append((column, value))
    return tuple(row)
