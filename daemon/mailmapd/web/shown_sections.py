"""The configuration as it may be shown to anybody on this machine.

Without passwords, and without the literals and comments of its queries.

SQL can hold a key (``AES_DECRYPT(password, 'key')``, ``UNHEX``, ``0x6b6579``), so its texts,
numbers and comments are hidden, but for expansions such as '%s' and numbers of one digit or two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import attrs

from mailmapd.config import schema
from mailmapd.config.schema import TOML_NAMES, Config
from mailmapd.template.sql_lexer import DEFAULT, SQLITE, Place, Rules, SqlLexer

HIDDEN = "(hidden)"

_LONG_NUMBER = 3  # digits of a number that may be a key

_QUERIES = frozenset({"query", "dovecot_query", "preload"})
_WORD = re.compile(r"(?P<name>[^\W\d][\w$]*|%\w|%L?\{\w+\})|\d[\w.]*")
_EXPANSIONS = re.compile(r"(?:[@.,:/+]|%[A-Za-z0-9%]|%L?\{[a-z_]+\}|%L[a-z])*")


class ShownSection(NamedTuple):
    """A section of the file, and its keys with their values as texts."""

    name: str
    settings: tuple[tuple[str, str], ...]


def shown_sections(config: Config) -> list[ShownSection]:
    """Return every section with the keys that are set, and with all keys of cache, limits, state and log."""
    return [section for section in _sections("", config, config) if section.settings]


def _sections(name: str, value: Any, config: Config) -> Iterator[ShownSection]:
    complete = isinstance(
        value, schema.CacheSection | schema.LimitsSection | schema.StateSection | schema.LogSection
    )
    settings: list[tuple[str, str]] = []
    below: list[tuple[str, Any]] = []
    for attribute in attrs.fields(type(value)):
        key = TOML_NAMES.get(type(value), {}).get(attribute.name, attribute.name)
        held = getattr(value, attribute.name)
        if isinstance(held, Mapping):
            below += [(_dotted(_dotted(name, key), each), inner) for each, inner in held.items()]
        elif attrs.has(type(held)) and not isinstance(held, schema.ListenAddress):
            below.append((_dotted(name, key), held))
        elif key in _QUERIES and held is not None:
            sqlite = config.databases[value.database].driver == "sqlite"
            settings.append((key, _shown_query(held, sqlite=sqlite)))
        elif complete or held not in (attribute.default, None, ()):
            settings.append((key, _text(key, held)))
    yield ShownSection(name, tuple(settings))
    for each, inner in below:
        if isinstance(inner, schema.ListenAddress):
            yield ShownSection(each, (("address", _text("address", inner)),))
        else:
            yield from _sections(each, inner, config)


def _dotted(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _text(key: str, value: Any) -> str:
    if isinstance(value, schema.Secret):
        return HIDDEN
    if isinstance(value, schema.ListenAddress):
        return str(value.address)
    if isinstance(value, tuple):
        return ", ".join(_text(key, item) for item in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, schema.Seconds):
        return f"{float(value):g} s"
    if value is None:
        return "none"
    return str(value)


def _shown_query(query: str, *, sqlite: bool) -> str:
    """Return a query without its literals, or none of it where they depend on a mode of the server."""
    rules = [SQLITE] if sqlite else [DEFAULT, Rules(backslashes=False)]
    shown = {"".join(map(_shown_part, SqlLexer(rule).read(query))) for rule in rules}
    return shown.pop() if len(shown) == 1 else HIDDEN


def _shown_part(part: tuple[Place, str]) -> str:
    place, text = part
    if place.is_comment:
        return "/* … */"
    if place.is_string:
        inner = text[1:].removesuffix(place.value)
        return text if _EXPANSIONS.fullmatch(inner) else f"{place.value}…{place.value}"
    return text if place is not Place.CODE else _WORD.sub(_shown_word, text)


def _shown_word(word: re.Match[str]) -> str:
    return word[0] if word["name"] is not None or len(word[0]) < _LONG_NUMBER else "…"
