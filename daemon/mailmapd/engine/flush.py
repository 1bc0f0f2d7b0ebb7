"""Flush: forget what memory holds about a key, a user, a domain, a table, a map, or everything.

    key      the entry of exactly this key in every table, or in one `table`; with a `map`, all its search tries
    user     everything that may influence an answer about user@domain: the address, with any extension, its bare
             local part where that is asked, the catch-all and domain entries that its lookups read,
             passwords and user data
    domain   the domain itself, its catch-all, and every address and user in it; not its parents, not its subdomains
    table    all of a table
    map      all tables of a map (with those of its hosted domains) or of a dict
    everything

A flush is complete when it returns: a query that is on its way to the database meanwhile still
answers who waits for it, but what it brings is not kept. What loads entries from elsewhere (a saved
cache, a preload) leaves out what was flushed since it began.

A million keys are looked at in slices, between which lookups are answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from mailmapd.engine.engine import SLICE, Engine
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.maps.map import Map
from mailmapd.engine.selection import Selection, of_domain, of_key, of_lookup, of_user
from mailmapd.engine.table import Table
from mailmapd.errors import MailmapdError


class UnknownName(MailmapdError):
    """A flush names a table or map that is not there; the text lists those that are."""


@dataclass(frozen=True)
class FlushRequest:
    """Names what to forget: one of `key`, `user`, `domain`, `everything`, or a whole `table` or `map`.

    A `key` may also be limited to one table or map.
    """

    key: bytes | None = None
    user: bytes | None = None
    domain: bytes | None = None
    table: str | None = None
    map: str | None = None
    everything: bool = False

    def fault(self) -> str:
        """Return what is wrong with the combination, or an empty text."""
        subjects = [
            self.key is not None,
            self.user is not None,
            self.domain is not None,
            self.everything,
        ]
        places = [self.table is not None, self.map is not None]
        if sum(subjects) > 1 or sum(places) > 1:
            return "say one of key, user, domain, table, map and all (a key may be limited to one table or map)"
        if not any(subjects) and not any(places):
            return "say what to forget: a key, user, domain, table, map, or all"
        if any(places) and any(subjects[1:]):
            return "only a key can be limited to a table or map"
        if self.user is not None and not all(self.user.rpartition(b"@")[::2]):
            return "a user is an address, such as user@example.com"
        if not all(text is None or text for text in (self.key, self.domain)) or (
            self.domain is not None and b"@" in self.domain
        ):
            return "a key or domain is missing, or the domain holds an @"
        return ""


async def flush(
    engine: Engine,
    request: FlushRequest,
    delimiters: bytes,
    applied: Callable[[Invalidation], None] = lambda _: None,
) -> dict[str, int]:
    """Forget what the request selects; return how many entries were dropped, by table. Raises UnknownName.

    `delimiters` are the characters that may begin an address extension. `applied` hears of every invalidation.
    """
    dropped: dict[str, int] = {}
    for name, selection in _select(engine, request, delimiters).items():
        dropped[name] = 0
        async for invalidation in _invalidations(engine.tables[name], selection):
            dropped[name] += engine.apply(invalidation)
            applied(invalidation)
    return dropped


def _select(engine: Engine, request: FlushRequest, delimiters: bytes) -> Mapping[str, Selection]:
    if request.key is not None:
        return _select_key(engine, request, request.key)
    if request.user is not None:
        user, maps = request.user, list(engine.maps.values())
        return {
            name: of_user(table, user, maps, delimiters) for name, table in engine.tables.items()
        }
    if request.domain is not None:
        domain = request.domain
        return {name: of_domain(table, domain) for name, table in engine.tables.items()}
    if request.table is not None:
        return {_table(engine, request.table).name: Selection(everything=True)}
    if request.map is not None:
        return dict.fromkeys(_tables_of(engine, request.map), Selection(everything=True))
    return dict.fromkeys(engine.tables, Selection(everything=True))


def _select_key(engine: Engine, request: FlushRequest, key: bytes) -> Mapping[str, Selection]:
    if request.table is not None:
        table = _table(engine, request.table)
        return {table.name: of_key(table, key)}
    if request.map is not None:
        if request.map in engine.maps:
            return of_lookup(engine.maps[request.map], key)
        return {name: of_key(engine.tables[name], key) for name in _tables_of(engine, request.map)}
    return {name: of_key(table, key) for name, table in engine.tables.items()}


def _table(engine: Engine, name: str) -> Table:
    if name not in engine.tables:
        raise UnknownName(
            f'there is no table "{name}"; the tables are: {", ".join(engine.tables) or "none"}'
        )
    return engine.tables[name]


def _tables_of(engine: Engine, name: str) -> list[str]:
    """Return the tables of a map, and of a dict of that name."""
    if name not in engine.maps and name not in engine.dicts:
        known = ", ".join([*engine.maps, *engine.dicts]) or "none"
        raise UnknownName(f'there is no map or dict "{name}"; there are: {known}')
    names: dict[str, None] = {}
    map_: Map | None = engine.maps.get(name)
    while map_ is not None:
        names |= dict.fromkeys(part.table.name for part in map_.tables)
        map_ = map_.hosted
    if name in engine.dicts:
        served = engine.dicts[name]
        names |= {
            part.table.name: None for part in (served.passdb, served.userdb) if part is not None
        }
    return list(names)


async def _invalidations(table: Table, selection: Selection) -> AsyncIterator[Invalidation]:
    """Yield what a selection is in terms of keys; a million of them are looked at in slices."""
    if selection.everything:
        yield Invalidation(table.name)
        return
    yield Invalidation(table.name, frozenset(selection.keys), unseen=selection.matches is not None)
    if selection.matches is None:
        return
    held = table.keys()
    for start in range(0, len(held), SLICE):
        found = [key for key in held[start : start + SLICE] if selection.matches(key)]
        if found:
            yield Invalidation(table.name, frozenset(found), unseen=True)
        await asyncio.sleep(0)
