"""Files and secrets that the configuration names or holds, by the types of the schema: no key can be forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs

from mailmapd.config.schema import TOML_NAMES, Config

T = TypeVar("T")


def values_of(config: Config, kind: type[T]) -> Iterator[tuple[str, T]]:
    """Yield every value of a kind that is set, such as each FileName, with its key: ``database.mail.tls.key``."""
    yield from _values(config, "", kind)


def path_beside(config_file: str, name: str) -> Path:
    """Return where a file is whose name, if it is relative, is meant from the configuration's folder.

    That is the folder in which the configuration was named, also where a link stands in it, and wherever the command
    was started.
    """
    return Path(config_file).absolute().parent / name


def _values(value: Any, where: str, kind: type[T]) -> Iterator[tuple[str, T]]:
    if isinstance(value, kind):
        yield where, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _values(inner, f"{where}.{name}", kind)
    elif attrs.has(type(value)):
        for attribute in attrs.fields(type(value)):
            key = TOML_NAMES.get(type(value), {}).get(attribute.name, attribute.name)
            inner = getattr(value, attribute.name)
            yield from _values(inner, f"{where}.{key}".removeprefix("."), kind)
