"""Every key of mailmapd.toml, from the classes of the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import attrs

from mailmapd.config.schema import TOML_NAMES


def keys_of(section: type, where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key with its type; a name that is the administrator's own is left out: ``database.tls.key``."""
    hints = get_type_hints(section)
    for attribute in attrs.fields(section):
        key = TOML_NAMES.get(section, {}).get(attribute.name, attribute.name)
        inner = f"{where}.{key}".removeprefix(".")
        kinds = [kind for kind in _kinds(hints[attribute.name]) if attrs.has(kind)]
        yield inner, hints[attribute.name]
        for kind in kinds:
            yield from keys_of(kind, inner)


def keys_of_kind(section: type, kind: type) -> list[str]:
    """Return the keys whose values are of exactly this kind."""
    return [where for where, hint in keys_of(section) if kind in _kinds(hint)]


def _kinds(hint: Any) -> list[Any]:
    """Return the types that a type is made of."""
    return [hint, *[kind for inner in get_args(hint) for kind in _kinds(inner)]]
