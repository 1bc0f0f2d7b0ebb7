"""Digests of tables: equal digests mean that the same keys give the same rows and that the same is kept of them.

They tell whether a saved cache belongs to a table of today's configuration. Passwords are no part
of them: a digest in a file is no place to try passwords against.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

from mailmapd.databases.settings import MysqlSettings, SqliteSettings
from mailmapd.plan.assembly import Plan
from mailmapd.plan.databases import Settings
from mailmapd.state.cache_file import DIGEST_SIZE

_SHARED = 16
"""Hexadecimal digits of a digest that tells the tables of a fleet apart."""


def table_digests(planned: Plan) -> dict[str, bytes]:
    """Return the digest of every table of a plan, by name."""
    digests = {
        name: _digest(table.template, table.settings) for name, table in planned.tables.items()
    }
    return digests | {
        name: _digest(table.definition, table.settings)
        for name, table in planned.dicts.tables.items()
    }


def shared_digests(planned: Plan) -> dict[str, str]:
    """Return digests that are the same on every host whose table of that name asks the same of the same data.

    Which of a database's servers is asked is no part of them: its identity, or its name, stands for the data. Tables
    of SQLite files have none.
    """
    tables = {
        name: (table.template, planned.table_databases[name])
        for name, table in planned.tables.items()
    } | {
        table.name: (table.definition, table.database)
        for dict_plan in planned.dicts.dicts.values()
        for table in dict_plan.tables
        if table.name in planned.dicts.tables
    }
    sections, settings = planned.config.databases, planned.databases
    digests: dict[str, str] = {}
    for name, (definition, database) in tables.items():
        known = settings.get(database)
        if isinstance(known, MysqlSettings):
            identity = sections[database].identity if database in sections else None
            place = ("shared", identity or database, known.dbname, known.charset)
            digests[name] = _digest_of(definition, place).hex()[:_SHARED]
    return digests


def _digest(definition: object, settings: Settings) -> bytes:
    return _digest_of(definition, _place(settings))


def _digest_of(definition: object, place: tuple[object, ...]) -> bytes:
    text = "\n".join(["", *_words(definition), *_words(place)])
    return hashlib.blake2b(
        text.encode("utf-8", "surrogateescape"), digest_size=DIGEST_SIZE
    ).digest()


def _place(settings: Settings) -> tuple[object, ...]:
    """Return what decides which rows a database has: where it is, and as whom and in which characters it is asked."""
    if isinstance(settings, SqliteSettings):
        return ("sqlite", str(Path(settings.path).absolute()))
    return (
        "mysql",
        settings.hosts,
        settings.user,
        settings.dbname,
        settings.charset,
        settings.option_file,
        settings.option_group,
    )


def _words(value: object) -> Iterator[str]:
    """Yield a text for every value inside a value, the same in every process."""
    if is_dataclass(value):
        yield f"{type(value).__name__}("
        for field_ in fields(value):
            yield field_.name
            yield from _words(getattr(value, field_.name))
        yield ")"
    elif isinstance(value, frozenset | set):
        yield from _words(sorted(value))
    elif isinstance(value, tuple | list):
        yield "["
        for item in value:
            yield from _words(item)
        yield "]"
    elif isinstance(value, re.Pattern):
        yield repr(value.pattern)
    elif value is None or isinstance(value, bytes | str | int | float):
        yield repr(value)
    else:
        raise TypeError(f"{type(value).__name__} cannot be digested")
