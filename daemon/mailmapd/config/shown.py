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

HIDDEN = "(hidden)"

_LONG_NUMBER = 3  # digits of a number that may be a key

_QUERIES = frozenset({"query", "dovecot_query", "preload"})
_LITERAL = re.compile(
    r"""
      '(?P<single>(?:[^'\\]|\\.|'')*)(?:'|$)
    | "(?P<double>(?:[^"\\]|\\.|"")*)(?:"|$)
    | (?P<name>`[^`]*(?:`|$)|[^\W\d][\w$]*|%\w|%L?\{\w+\})
    | (?P<comment>/\*.*?(?:\*/|$)|(?:\#|--(?=\s|$))[^\n]*)
    | (?P<number>\d[\w.]*)
    """,
    re.VERBOSE | re.DOTALL,
)
_EXPANSIONS = re.compile(r"(?:[@.,:/+]|%[A-Za-z0-9%]|%L?\{[a-z_]+\}|%L[a-z])*")


class ShownSection(NamedTuple):
    """A section of the file, and its keys with their values as texts."""

    name: str
    settings: tuple[tuple[str, str], ...]


def shown_sections(config: Config) -> list[ShownSection]:
    """Return every section with the keys that are set, and with all keys of cache, limits, state and log."""
    return [section for section in _sections("", config) if section.settings]


def _sections(name: str, value: Any) -> Iterator[ShownSection]:
    complete = isinstance(
        value, schema.CacheSection | schema.LimitsSection | schema.StateSection | schema.LogSection
    )
    settings: list[tuple[str, str]] = []
    below: list[tuple[str, Any]] = []
    for attribute in attrs.fields(type(value)):
        key = TOML_NAMES.get(type(value), {}).get(attribute.name, attribute.name)
        held = getattr(value, attribute.name)
        if isinstance(held, Mapping):
            below += [(_dotted(_dotted(name, key), each), one) for each, one in held.items()]
        elif attrs.has(type(held)) and not isinstance(held, schema.ListenAddress):
            below.append((_dotted(name, key), held))
        elif complete or held not in (attribute.default, None, ()):
            settings.append((key, _text(key, held)))
    yield ShownSection(name, tuple(settings))
    for each, one in below:
        if isinstance(one, schema.ListenAddress):
            yield ShownSection(each, (("address", _text("address", one)),))
        else:
            yield from _sections(each, one)


def _dotted(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _text(key: str, value: Any) -> str:
    if key == "password":
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
    return _LITERAL.sub(_hide_literal, value) if key in _QUERIES else str(value)


def _hide_literal(match: re.Match[str]) -> str:
    whole = match[0]
    if match["name"] is not None:
        return whole
    if match["comment"] is not None:
        return "/* … */"
    if match["number"] is not None:
        return whole if len(whole) < _LONG_NUMBER else "…"
    quote = whole[0]
    text = match["single"] if quote == "'" else match["double"]
    return whole if _EXPANSIONS.fullmatch(text) else f"{quote}…{quote}"
