"""Following: every database whose log can be followed, and what that means for the tables of the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from mailmapd.changes.audit import Audit
from mailmapd.changes.feed import Feed
from mailmapd.changes.file_feed import FileFeed
from mailmapd.changes.forgetting import Forgetting
from mailmapd.changes.lease import Lease
from mailmapd.changes.progress import Mark
from mailmapd.changes.refetching import Refetching
from mailmapd.changes.touched import Touched
from mailmapd.databases.host_list import parse_hosts
from mailmapd.databases.mysql.account import account_for
from mailmapd.databases.mysql.database import MysqlDatabase
from mailmapd.databases.mysql.host import Expected
from mailmapd.databases.mysql.opener import MysqlOpener
from mailmapd.databases.settings import ChangesSettings, MysqlSettings, SqliteSettings
from mailmapd.engine.definition import Definition
from mailmapd.engine.engine import Engine
from mailmapd.errors import DatabaseError

log = logging.getLogger(__name__)


UNLOGGED = (
    "rows change without the log saying so (SET sql_log_bin = 0, binlog_do_db, binlog_ignore_db)"
)

Followable = tuple[MysqlSettings | SqliteSettings, ChangesSettings]
"""A database whose log may be followed: its settings, and how."""


class Hearer(Protocol):
    """Told what is followed, to tell other hosts."""

    def touched(self, touched: Touched) -> None:
        """Hear what was just forgotten, by the engine's names of tables."""
        ...

    def changed(self) -> None:
        """Hear that other databases or tables are followed now."""
        ...


class Kept(NamedTuple):
    """A later start goes on from this: the place in each host's log, and the tables that are followed until there."""

    marks: Mapping[str, Mark]
    tables: frozenset[str]

    def encode(self) -> dict[str, Any]:
        """Return the value in terms of JSON."""
        marks = {host: mark.encode() for host, mark in self.marks.items()}
        return {"marks": marks, "tables": sorted(self.tables)}

    @classmethod
    def decode(cls, value: Any) -> Kept:
        """Return the value from what `encode` gave. Raises ValueError for anything else."""
        try:
            marks = {str(host): Mark.decode(mark) for host, mark in value["marks"].items()}
            return cls(marks, frozenset(map(str, value["tables"])))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no places in logs: {error}") from None


class Following:
    """Follows the databases of one engine from `start` to `close`; `hearer` is told what that brings.

    By what was `kept` of an earlier time it goes on from there.
    """

    def __init__(
        self,
        engine: Engine,
        wanted: Mapping[str, Followable],
        clock: Callable[[], float],
        hearer: Hearer | None = None,
        kept: Mapping[str, Kept] | None = None,
    ) -> None:
        self.databases = {
            # A file is this host's own
            name: FollowedDatabase(
                name,
                engine,
                chosen,
                clock,
                hearer=hearer if isinstance(chosen[0], MysqlSettings) else None,
                kept=(kept or {}).get(name),
            )
            for name, chosen in wanted.items()
        }

    def start(self) -> None:
        """Begin."""
        for database in self.databases.values():
            database.start()

    async def kept(self) -> dict[str, Kept]:
        """Return what to go on from later, of each database whose changes are known now.

        Whatever is in memory from now on is as it was there, or newer.
        """
        found = {name: await database.kept() for name, database in self.databases.items()}
        return {name: kept for name, kept in found.items() if kept is not None}

    async def close(self) -> None:
        """End; what was known has the ordinary times from now on, until it is known what was missed."""
        await asyncio.gather(*[database.close() for database in self.databases.values()])


class FollowedDatabase:
    """One database: a feed for each of its hosts, one lease for all of them; its `epoch` counts how often it began."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        wanted: Followable,
        clock: Callable[[], float],
        *,
        hearer: Hearer | None = None,
        kept: Kept | None = None,
    ) -> None:
        self.name = name
        self.epoch = 0
        self._settings, self._changes = wanted
        self.lease = Lease(self._changes.watched_ttl, self._changes.watched_negative_ttl)
        self.feeds: list[Feed | FileFeed] = []
        self._complete = True  # each host has a feed
        self._missed = False  # a feed has begun anew, since changes were known last
        self._kept = kept
        self._clock = clock
        self._hearer = hearer
        self._database = database = engine.databases[name]
        self._tables = {
            table.name: table for table in engine.tables.values() if table.database is database
        }
        self._forgetting = Forgetting(engine, self._tables)
        self._refetching: Refetching | None = None  # a file answers soon enough
        if isinstance(self._settings, MysqlSettings):
            self._refetching = Refetching(self._tables, self._settings.pool_size, clock)
        self._said: dict[str, str] = {}  # why tables are not followed, as the log has it
        self.suspended: dict[str, str] = {}  # tables that an audit found outdated, with the reason
        self._found_elsewhere: frozenset[str] = frozenset()
        self._audit = Audit(self, self._tables, self._changes.audit, clock)

    @property
    def last_heard(self) -> float:
        """Return when the server that has been silent for longest was heard of."""
        return min(feed.last_heard for feed in self.feeds)

    @property
    def is_demanded(self) -> bool:
        """Return whether it is a fault when this database cannot be followed."""
        return self._changes.follow == "yes"

    @property
    def followed(self) -> frozenset[str]:
        """Return the tables of the engine whose changes are known on every host that is followed now."""
        alive = [feed.readers.followed for feed in self.feeds if feed.alive]
        known = frozenset.intersection(*map(frozenset, alive)) if alive else frozenset()
        return known - self.suspended.keys() - self._found_elsewhere

    @property
    def holds(self) -> bool:
        """Return whether changes are known now."""
        return self.lease.holds

    async def catch_up(self) -> None:
        """Wait until all that the hosts show now has been heard of and forgotten for the last time.

        Raises DatabaseError.
        """
        await self._catch_up(together=False)

    async def agree(self) -> None:
        """Catch up when each host has all that the others had: a replica that lags says what was so once.

        Raises DatabaseError.
        """
        await self._catch_up(together=True)

    async def _catch_up(self, *, together: bool) -> None:
        if together and len(self.feeds) > 1:
            hosts = [feed for feed in self.feeds if isinstance(feed, Feed)]
            gtids = await asyncio.gather(*[feed.gtids() for feed in hosts])
            await asyncio.gather(*[feed.catch_up(gtids) for feed in hosts])
        else:
            await asyncio.gather(*[feed.catch_up() for feed in self.feeds])
        await self._forgetting.catch_up()

    async def likely_reason(self, table: str) -> str:
        """Return why answers of a table change without the log saying so, as far as that can be seen."""
        for feed in self.feeds:
            reason = await feed.unheard(table)
            if reason:
                return reason
        return UNLOGGED

    def suspend(self, table: str, reason: str) -> None:
        """Follow a table no more; what is known of it has the ordinary times from now on."""
        self.suspended[table] = reason
        self.look()
        self._forgetting.distrust(self._clock(), (table,))

    def suspend_for_others(self, tables: Collection[str]) -> None:
        """Follow none of these, as long as audits of other hosts have found them outdated."""
        found = frozenset(tables).intersection(self._tables)
        if found != self._found_elsewhere:
            new, self._found_elsewhere = found - self._found_elsewhere, found
            self.look()
            self._forgetting.distrust(self._clock(), new)

    def start(self) -> None:
        """Begin to follow every host."""
        if not self._tables:
            return
        self._audit.start()
        settings = self._settings
        definitions = {name: table.definition for name, table in self._tables.items()}
        if isinstance(settings, SqliteSettings):
            self.feeds.append(
                FileFeed(
                    settings.path,
                    definitions,
                    forget=self.forget,
                    distrust=self._forgetting.distrust,
                    changed=self.look,
                    clock=self._clock,
                )
            )
        else:
            self._add_hosts(settings, definitions)
        for feed in self.feeds:
            feed.start()

    def _add_hosts(self, settings: MysqlSettings, definitions: Mapping[str, Definition]) -> None:
        changes = self._changes
        replication = settings
        if changes.user is not None:  # an account that may follow, and need not see any database
            replication = replace(settings, user=changes.user, password=changes.password, dbname="")
        openers = (MysqlOpener(settings), MysqlOpener(replication))
        addresses = parse_hosts(settings.hosts)
        for address in addresses:
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
                told=self,
                clock=self._clock,
                others=[other for other in addresses if other != address],
                mark=None if self._kept is None else self._kept.marks.get(address.label),
            )
            self.feeds.append(feed)

    async def kept(self) -> Kept | None:
        """Return what to go on from later, or None while changes are not known, or not of a database with a log."""
        marks = {feed.host: feed.settled_mark for feed in self.feeds if isinstance(feed, Feed)}
        found = {host: mark for host, mark in marks.items() if mark is not None}
        if not self.lease.holds or len(found) < len(self.feeds):
            return None
        tables = self.followed
        await self._forgetting.catch_up()
        return Kept(found, tables)

    async def close(self) -> None:
        """End every feed, and believe what was known only as if it had been fetched now."""
        await self._audit.close()
        await asyncio.gather(*[feed.close() for feed in self.feeds])
        self.lease.holds = False
        if self._refetching is not None:
            await self._refetching.close()
        watched = [name for name, table in self._tables.items() if table.watch is self.lease]
        for name in watched:
            self._tables[name].watch = None
        self._forgetting.doubt(self._clock(), watched)
        await self._forgetting.close()

    @property
    def sweeps_asked(self) -> int:
        """Return how often it was said by some of its parts which keys are to be forgotten."""
        return self._forgetting.sweeps_asked

    def has_swept(self, asked: int) -> bool:
        """Return whether all these keys have been looked for since `sweeps_asked` was `asked`."""
        return self._forgetting.has_swept(asked)

    def missed(self) -> None:
        """Have nothing believed again that is in doubt: a feed begins anew."""
        self._missed = True

    def expect(self, host: str, expected: Expected | None) -> None:
        """Have each connection of lookups to a host reach the server whose log is read, or its feed hear of it."""
        if isinstance(self._database, MysqlDatabase):
            self._database.expect(host, expected)

    def doubt(self, before: float) -> None:
        """Have everything that was stored before a moment count from there, until all feeds are there again."""
        self._forgetting.doubt(before)

    def _say_what_is_not_followed(self) -> None:
        """Log each table that cannot be followed, with the reason, once."""
        for feed in self.feeds:
            for table, reason in feed.readers.not_followed.items():
                if self._said.get(table) != reason:
                    self._said[table] = reason
                    log.info("table %s is not followed: %s", table, reason)

    def look(self) -> None:
        """Let tables be watched, or not any more, as the feeds are now."""
        self._say_what_is_not_followed()
        held = self.lease.holds
        # Also of a host that is down: it may answer again before its feed knows anything of it.
        self.lease.holds = self._complete and all(feed.alive for feed in self.feeds)
        followed = self.followed if self.lease.holds else frozenset()
        if self.lease.holds and not held:
            self.epoch += 1
            missed, self._missed = self._missed, False
            for name, table in self._tables.items():
                table.cache.settle(believed=not missed and name in followed)
        for name, table in self._tables.items():
            if name in followed:
                if table.watch is not self.lease:
                    # What is on its way may have been read before the feed began.
                    table.cut_flights()
                    table.watch = self.lease
            elif table.watch is self.lease:
                table.watch = None
        if self._hearer is not None:
            self._hearer.changed()

    def forget(self, touched: Touched) -> None:
        """Forget what was touched, and tell others."""
        if self._refetching is not None:
            self._refetching.note(self._tables if touched.everything else touched.whole)
        self._forgetting.forget(touched)
        if self._hearer is not None:
            named = touched
            if touched.everything:
                named = Touched(whole=set(self._tables))
            self._hearer.touched(named)

    def visible(self, tables: Iterable[str]) -> None:
        """Fetch what of these tables was used most, which were forgotten as a whole."""
        if self._refetching is not None:
            self._refetching.begin(tables)
