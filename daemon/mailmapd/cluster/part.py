"""The part of a process that a bus serves, and what its tables are called in the fleet: by what they ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mailmapd.changes.following import Following
from mailmapd.changes.touched import Touched
from mailmapd.cluster.watching import server_digest
from mailmapd.databases.settings import ChangesSettings, MysqlSettings
from mailmapd.engine.engine import Engine

Flush = Callable[[Mapping[str, Any]], Awaitable[None]]
"""Carries a flush out on this host; one that means nothing here does nothing. Raises NotUnderstood."""


@dataclass(frozen=True)
class Part:
    """The part of a process that a bus serves: engine, databases that may be followed, digests of the questions."""

    engine: Engine
    databases: Mapping[str, tuple[MysqlSettings, ChangesSettings]]
    digests: Mapping[str, str]
    following: Callable[[], Following | None]
    flush: Flush

    @cached_property
    def names(self) -> Mapping[str, list[str]]:
        """Return what tables are called here, by the digests of their questions."""
        names: dict[str, list[str]] = {}
        for name, digest in self.digests.items():
            names.setdefault(digest, []).append(name)
        return names

    @cached_property
    def config(self) -> str:
        """Return a digest of what the tables are called here, and what they ask."""
        flat: list[str] = []
        for name, digest in sorted(self.digests.items()):
            flat += (name, digest)
        return server_digest(tuple(flat))

    def shared(self, touched: Touched) -> Touched:
        """Return what was touched in terms that all hosts share."""
        digests = self.digests
        shared = Touched(whole={digests[name] for name in touched.whole if name in digests})
        for name, keys in touched.keys.items():
            if name in digests:
                shared.keys[digests[name]] = keys
        for name, parts in touched.parts.items():
            if name in digests:
                shared.parts[digests[name]] = parts
        return shared

    def named(self, shared: Touched) -> Touched:
        """Return what was touched by the names that tables have here."""
        touched = Touched()
        for digest in shared.whole:
            touched.whole.update(self.names.get(digest, ()))
        for digest, keys in shared.keys.items():
            touched.keys.update((name, keys) for name in self.names.get(digest, ()))
        for digest, parts in shared.parts.items():
            touched.parts.update((name, parts) for name in self.names.get(digest, ()))
        return touched
