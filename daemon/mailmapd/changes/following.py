"""Following: every database whose log can be followed, and what that means for the tables of the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from mailmapd.changes.feed import Feed
from mailmapd.changes.layout import KeyLayout, layout_of
from mailmapd.changes.lease import Lease
from mailmapd.changes.touched import SomeParts, Touched
from mailmapd.databases.host_list import parse_hosts
from mailmapd.databases.mysql.account import account_for
from mailmapd.databases.mysql.opener import MysqlOpener
from mailmapd.databases.settings import ChangesSettings, MysqlSettings
from mailmapd.engine.engine import SLICE, Engine
from mailmapd.engine.invalidation import Invalidation
from mailmapd.errors import DatabaseError

log = logging.getLogger(__name__)


Followable = tuple[MysqlSettings, ChangesSettings]
"""A database whose log may be followed: its settings, and how."""


class Following:
    """Follows the databases of one engine from `start` to `close`."""

    def __init__(
        self, engine: Engine, wanted: Mapping[str, Followable], clock: Callable[[], float]
    ) -> None:
        self.databases = {
            name: FollowedDatabase(name, engine, one, clock) for name, one in wanted.items()
        }

    def start(self) -> None:
        """Begin."""
        for database in self.databases.values():
            database.start()

    async def close(self) -> None:
        """End; what was known has the ordinary times from now on."""
        await asyncio.gather(*[database.close() for database in self.databases.values()])


class FollowedDatabase:
    """One database: a feed for each of its hosts, one lease for all of them."""

    def __init__(
        self, name: str, engine: Engine, wanted: Followable, clock: Callable[[], float]
    ) -> None:
        self.name = name
        self._settings, self._changes = wanted
        self.lease = Lease(self._changes.watched_ttl, self._changes.watched_negative_ttl)
        self.feeds: list[Feed] = []
        self._complete = True  # each host has a feed
        self._engine = engine
        self._clock = clock
        self._database = engine.databases[name]
        self._tables = {
            table.name: table
            for table in engine.tables.values()
            if table.database is self._database
        }
        self._layouts: dict[str, KeyLayout] = {
            table: layout_of(one.definition) for table, one in self._tables.items()
        }
        self._sweeps: dict[str, set[SomeParts]] = {}
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def is_demanded(self) -> bool:
        """Return whether it is a fault when this database cannot be followed."""
        return self._changes.follow == "yes"

    @property
    def followed(self) -> frozenset[str]:
        """Return the tables of the engine whose changes are known on every host that is followed now."""
        alive = [feed.readers.followed for feed in self.feeds if feed.alive]
        return frozenset.intersection(*map(frozenset, alive)) if alive else frozenset()

    def start(self) -> None:
        """Begin to follow every host."""
        if not self._tables:
            return
        settings, changes = self._settings, self._changes
        replication = settings
        if changes.user is not None:  # an account that may follow, and need not see any database
            replication = replace(settings, user=changes.user, password=changes.password, dbname="")
        openers = (MysqlOpener(settings), MysqlOpener(replication))
        definitions = {name: table.definition for name, table in self._tables.items()}
        for address in parse_hosts(settings.hosts):
            try:
                schema = account_for(address, settings)[1].dbname
            except DatabaseError as error:
                self._complete = False
                log.error("changes of %s are not followed: %s", address.label, error)  # noqa: TRY400
                continue
            feed = Feed(
                openers,
                address,
                definitions,
                schema,
                forget=self._forget,
                distrust=self._distrust,
                changed=self._look,
                clock=self._clock,
            )
            self.feeds.append(feed)
            feed.start()

    async def close(self) -> None:
        """End every feed, and believe what was known only as if it had been fetched now."""
        await asyncio.gather(*[feed.close() for feed in self.feeds])
        self.lease.holds = False
        for name, table in self._tables.items():
            if table.watch is not None:
                table.watch = None
                self._engine.apply(Invalidation(name, before=self._clock()))
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)

    def _look(self) -> None:
        """Let tables be watched, or not any more, as the feeds are now."""
        # Also of a host that is down: it may answer again before its feed knows anything of it.
        self.lease.holds = self._complete and all(feed.alive for feed in self.feeds)
        followed = self.followed if self.lease.holds else frozenset()
        for name, table in self._tables.items():
            if name not in followed:
                table.watch = None
            elif table.watch is None:
                # What is on its way may have been read before the feed began.
                table.cut_flights()
                table.watch = self.lease

    def _distrust(self, before: float) -> None:
        for name in self._tables:
            self._engine.apply(Invalidation(name, before=before))

    def _forget(self, touched: Touched) -> None:
        whole: Iterable[str] = self._tables if touched.everything else touched.whole
        for table in whole:
            self._engine.apply(Invalidation(table))
        if touched.everything:
            return
        for table, keys in touched.keys.items():
            self._engine.apply(Invalidation(table, frozenset(keys)))
        for table, parts in touched.parts.items():
            self._sweeps.setdefault(table, set()).update(parts)
        if self._sweeps and (self._sweeper is None or self._sweeper.done()):
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def _sweep(self) -> None:
        """Forget the keys that have some parts; all of a table are looked at, in slices, for many parts at a time."""
        while self._sweeps:
            name, wanted = self._sweeps.popitem()
            table, layout = self._tables[name], self._layouts[name]
            found = _Wanted(wanted)
            # What is on its way could be one of them, too.
            table.cut_flights()
            keys = table.keys()
            for start in range(0, len(keys), SLICE):
                fitting = [key for key in keys[start : start + SLICE] if found.fits(layout, key)]
                if fitting:
                    self._engine.apply(Invalidation(name, frozenset(fitting), reverse=True))
                await asyncio.sleep(0)


class _Wanted:
    """Parts of keys that are looked for: which names, and for each choice of names which values."""

    def __init__(self, wanted: Iterable[SomeParts]) -> None:
        self._values: dict[tuple[str, ...], set[tuple[bytes, ...]]] = {}
        for parts in wanted:
            names = tuple(name for name, _ in parts)
            self._values.setdefault(names, set()).add(tuple(value for _, value in parts))

    def fits(self, layout: KeyLayout, sql_key: bytes) -> bool:
        """Return whether a key has any of them."""
        parts = layout.parts(sql_key)
        return any(
            tuple([parts.get(name, b"") for name in names]) in values
            for names, values in self._values.items()
        )
