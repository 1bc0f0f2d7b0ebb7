"""The configuration that an importer is writing: databases, tables, maps and dicts before they are TOML.

Both importers fill the same draft, so that a database used by Postfix and by Dovecot alike becomes one section.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mailmapd.databases.host_list import CLIENT_SOCKET, parse_host

_TIMES = ("connect_timeout", "query_timeout", "retry_interval", "idle_interval")


@dataclass(frozen=True, slots=True)
class DraftDatabase:
    """One [database.NAME]: `settings` in TOML's words without the password, which goes to a file of its own."""

    name: str
    settings: dict[str, Any]
    password: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class DraftSection:
    """One [table.NAME], [map.NAME] or [dict.NAME]: its settings in order, and a comment above it."""

    name: str
    settings: dict[str, Any]
    comment: str = ""


@dataclass(slots=True)
class Draft:
    """Everything that will be written. Names are unique per kind."""

    listen: dict[str, Any] = field(default_factory=dict)
    databases: list[DraftDatabase] = field(default_factory=list)
    tables: list[DraftSection] = field(default_factory=list)
    maps: list[DraftSection] = field(default_factory=list)
    dicts: list[DraftSection] = field(default_factory=list)
    comment: str = ""

    def database(self, settings: dict[str, Any], password: str, comment: str) -> str:
        """Return the name of the database with these settings and password, adding it when it is new."""
        for known in self.databases:
            if known.password == password and is_same_server(known.settings, settings):
                return known.name
        wanted = str(
            settings.get("dbname") or settings.get("path", "mail").rpartition("/")[2] or "mail"
        )
        name = unused_name(wanted, {known.name for known in self.databases})
        self.databases.append(DraftDatabase(name, settings, password, comment))
        return name

    def notes(self) -> Iterator[str]:
        """Yield what an administrator may want to join: databases that differ only in their times stay apart."""
        for at, second in enumerate(self.databases):
            for first in self.databases[:at]:
                if first.password != second.password:
                    continue
                differing = _differing_times(first.settings, second.settings)
                if differing:
                    yield (
                        f"[database.{first.name}] and [database.{second.name}] are one server and one account, with "
                        f"connections of their own because of their times alone ({', '.join(differing)}). Where one "
                        f'set of times will do, write database = "{first.name}" in the tables of the other, and '
                        f"remove [database.{second.name}]."
                    )


def _differing_times(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the times in which two databases differ, nothing if they are equal or differ in more than that."""
    rest = [
        {key: value for key, value in settings.items() if key not in _TIMES}
        for settings in (one, other)
    ]
    if not is_same_server(*rest):
        return []
    return [key for key in _TIMES if one.get(key) != other.get(key)]


def is_same_server(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether the settings of two databases mean the same, however each writes its hosts.

    ``127.0.0.1`` of a .cf file is ``host=127.0.0.1 port=3306`` of Dovecot's.
    """
    return _comparable(one) == _comparable(other)


def _comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    directed = "option_file" in settings
    hosts = [_server(host, directed=directed) for host in settings.get("hosts", ())]
    return {**settings, "hosts": hosts}


def _server(host: str, *, directed: bool) -> object:
    """Return the place of a server; an option file may have a say in what the text leaves open (`directed`)."""
    try:
        address = parse_host(host)
    except ValueError:
        return host
    if not address.is_local:
        return address.name.lower(), address.port, directed and address.says_port
    if directed and not address.path:
        return ""
    return os.path.realpath(address.path or CLIENT_SOCKET)


def unused_name(wanted: str, taken: set[str]) -> str:
    """Return `wanted` as a bare TOML key, with a number behind it when it is taken."""
    bare = re.sub(r"[^A-Za-z0-9_-]+", "_", wanted).strip("_") or "unnamed"
    name, number = bare, 2
    while name in taken:
        name, number = f"{bare}_{number}", number + 1
    return name
