"""Watching: which tables are kept for long because another host follows their changes.

Each server that a database has on this host is asked again and again which one it is; a table is watched while a
follower vouches for all of them. When that one's word ends, another's may stand in for it, if it began before: then
there was no break. Otherwise the table has its ordinary times from the last proof on.

A table that is watched already, because this host itself follows its database, is left to that.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from mailmapd.changes.lease import Lease
from mailmapd.cluster.coverage import BEFORE, Coverage, Name, Source, Vouched
from mailmapd.cluster.shared_answer import SharedAnswer
from mailmapd.databases.host_list import HostAddress, parse_hosts
from mailmapd.databases.mysql.binlog.session import Session, open_session
from mailmapd.databases.mysql.opener import MysqlOpener
from mailmapd.databases.settings import ChangesSettings, MysqlSettings
from mailmapd.engine.engine import Engine
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.table import Table
from mailmapd.errors import DatabaseError
from mailmapd.tasks import end_tasks

log = logging.getLogger(__name__)

_ASKED = 1.0  # seconds between two questions which server it is
COMPARE = 15.0  # seconds between two looks whether a new connection reaches the same one
_RETRY = 1.0  # seconds until a server that did not answer is asked again


def server_digest(identity: tuple[str, ...]) -> str:
    """Return a server's identity as messages say it."""
    return hashlib.blake2b("\0".join(identity).encode(), digest_size=8).hexdigest()


class OwnServers:
    """The servers of one database of this host; `digests` is None while it is not known which they are."""

    def __init__(
        self, settings: MysqlSettings, changed: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self._opener = MysqlOpener(settings)
        self._known: dict[HostAddress, str | None] = dict.fromkeys(parse_hosts(settings.hosts))
        self._changed = changed
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def digests(self) -> frozenset[str] | None:
        """Return which servers they are."""
        known = [digest for digest in self._known.values() if digest is not None]
        return frozenset(known) if len(known) == len(self._known) else None

    def start(self) -> None:
        """Begin to ask."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run(address)) for address in self._known]

    async def close(self) -> None:
        """End."""
        await end_tasks(self._tasks)

    async def _run(self, address: HostAddress) -> None:
        while True:
            try:
                await self._ask(address)
            except DatabaseError as error:
                log.debug("cluster: %s", error)
            except Exception:
                log.exception("cluster: a defect of mailmapd; %s is not known", address.label)
            self._set(address, None)
            await asyncio.sleep(_RETRY)

    async def _ask(self, address: HostAddress) -> None:
        """Ask until the server does not answer, or a new connection to its address reaches another one."""
        session = await open_session(self._opener, address)
        try:
            compared = float("-inf")
            while True:
                identity = await session.identity()
                if self._clock() - compared >= COMPARE:
                    await self._compare(address, identity)
                    compared = self._clock()
                self._set(address, server_digest(identity))
                await asyncio.sleep(_ASKED)
        finally:
            session.close()

    async def _compare(self, address: HostAddress, identity: tuple[str, ...]) -> None:
        """See that a new connection, such as a lookup's, reaches the same server. Raises DatabaseError."""
        other: Session = await open_session(self._opener, address)
        try:
            if await other.identity() != identity:
                raise DatabaseError(f"{address.label}: connections reach different servers")
        finally:
            other.close()

    def _set(self, address: HostAddress, digest: str | None) -> None:
        if self._known[address] != digest:
            self._known[address] = digest
            self._changed()


@dataclass(slots=True)
class _Watched:
    """A table, the digest of what it asks, and whose word keeps it, until when.

    `left` is a moment from which on it is left to this host, which follows its changes itself.
    """

    table: Table
    digest: str
    lease: Lease
    source: Source | None = None
    proven: float = float("-inf")
    left: float = float("inf")
    others: frozenset[str] = (
        frozenset()
    )  # servers that hosts have asked whose answers are kept here

    def vouched(self, servers: frozenset[str]) -> frozenset[str]:
        """Return the servers whose changes must be known."""
        return servers | self.others


@dataclass(slots=True)
class _Database:
    servers: OwnServers
    tables: list[_Watched] = field(default_factory=list)


class Watching:
    """Watches the tables of one engine. `digests` are those of what its tables ask, by name."""

    def __init__(
        self,
        engine: Engine,
        databases: Mapping[str, tuple[MysqlSettings, ChangesSettings]],
        digests: Mapping[str, str],
        coverage: Coverage,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._coverage = coverage
        self._clock = clock
        self._databases: dict[str, _Database] = {}
        for name, (settings, changes) in databases.items():
            tables = [
                _Watched(
                    table,
                    digests[table.name],
                    Lease(changes.watched_ttl, changes.watched_negative_ttl),
                )
                for table in engine.tables.values()
                if table.database is engine.databases[name] and table.name in digests
            ]
            if tables:
                self._databases[name] = _Database(OwnServers(settings, self.look, clock), tables)
        self._by_name = {
            watched.table.name: watched
            for database in self._databases.values()
            for watched in database.tables
        }
        self._by_table = {
            watched.table.name: database
            for database in self._databases.values()
            for watched in database.tables
        }

    def servers(self, table: str) -> frozenset[str] | None:
        """Return which servers answer the questions of a table, or None while that is not known."""
        return self._by_table[table].servers.digests if table in self._by_table else None

    def believes(self, name: str, answer: SharedAnswer) -> bool:
        """Return whether every change since another host has asked for this answer was told, and will be.

        From now on whoever keeps the table must vouch for the servers that were asked there, too.
        """
        watched, servers, now = self._by_name.get(name), self.servers(name), self._clock()
        if watched is None or servers is None or watched.source is None:
            return False
        vouched, digest = watched.vouched(servers) | answer.servers, watched.digest
        keeper = watched.source
        if watched.table.watch is not watched.lease or not keeper.vouches(vouched, digest, now):
            return False
        for source in self._coverage.reaching_back(vouched, digest, answer.last_id, now):
            if source is keeper or keeper.since[digest] <= source.proven:
                watched.others |= answer.servers
                return True
        return False

    def start(self) -> None:
        """Begin."""
        for database in self._databases.values():
            database.servers.start()

    async def close(self) -> None:
        """End; what was kept because of others is in doubt from the last proof on."""
        await asyncio.gather(*[database.servers.close() for database in self._databases.values()])
        self.lose(doubt=True)

    def watched(self) -> dict[str, list[str]]:
        """Return the tables that are watched because of others, by database."""
        return {
            name: [
                watched.table.name
                for watched in database.tables
                if watched.source is not None and watched.table.watch is watched.lease
            ]
            for name, database in self._databases.items()
        }

    def words(self) -> tuple[list[Vouched], dict[str, frozenset[str]]]:
        """Return whose word has held for what is kept for long now, and the servers that were asked, by digest."""
        now = self._clock()
        tables: dict[Name, set[str]] = {}
        asked: dict[str, frozenset[str]] = {}
        for watched, servers in self._all():
            keeper, digest = watched.source, watched.digest
            if keeper is None or servers is None or watched.table.watch is not watched.lease:
                continue
            needed = watched.vouched(servers)
            for name, source in self._coverage.sources.items():
                # Whoever began later has not told what was changed before
                if source.vouches(needed, digest, now) and source.since[digest] <= watched.proven:
                    tables.setdefault(name, set()).add(digest)
                    asked[digest] = needed
        sources = self._coverage.sources
        found = [
            Vouched(name, sources[name].epoch, sources[name].servers, frozenset(digests))
            for name, digests in tables.items()
        ]
        return found, asked

    def settle(self, asked: Mapping[str, frozenset[str]]) -> list[Table]:
        """Return the tables of which every change was told since memory was written down, and will be.

        From now on whoever keeps them must vouch for the servers that were `asked` for it.
        """
        now, found = self._clock(), []
        for watched, servers in self._all():
            keeper, digest = watched.source, watched.digest
            if keeper is None or servers is None or digest not in asked:
                continue
            needed = watched.vouched(servers) | asked[digest]
            vouching = self._coverage.vouching(needed, digest, now)
            if keeper.vouches(needed, digest, now) and any(
                source.since[digest] == BEFORE for source in vouching
            ):
                watched.others |= asked[digest]
                found.append(watched.table)
        return found

    def _all(self) -> Iterator[tuple[_Watched, frozenset[str] | None]]:
        """Yield every table that may be watched, with the servers that it is asked of."""
        for database in self._databases.values():
            servers = database.servers.digests
            for watched in database.tables:
                yield watched, servers

    def lose(self, *, doubt: bool = False) -> None:
        """Watch nothing any more. What is only in `doubt` may be believed again."""
        for database in self._databases.values():
            for watched in database.tables:
                self._lose(watched, doubt=doubt)

    def look(self) -> None:
        """Watch what is vouched for now, and nothing else."""
        now = self._clock()
        for database in self._databases.values():
            servers = database.servers.digests
            for watched in database.tables:
                self._look(watched, servers, now)

    def _look(self, watched: _Watched, servers: frozenset[str] | None, now: float) -> None:
        is_left = watched.table.watch not in (None, watched.lease)
        watched.left = min(watched.left, now) if is_left else float("inf")
        if servers is not None:
            servers = watched.vouched(servers)
        if watched.source is not None:
            if servers is not None and watched.source.vouches(servers, watched.digest, now):
                watched.proven = max(watched.proven, watched.source.proven)
                self._attach(watched)
                return
            watched.proven = max(watched.proven, watched.source.proven)
        if servers is not None:
            for source in self._coverage.vouching(servers, watched.digest, now):
                if watched.source is not None and source.since[watched.digest] > watched.proven:
                    self._lose(watched)  # nobody knows what happened before it began
                watched.source, watched.proven = source, source.proven
                self._attach(watched)
                return
        self._lose(watched)

    def _attach(self, watched: _Watched) -> None:
        if watched.table.watch is None:
            # What is on its way may have been read before anybody vouched for it.
            watched.table.cut_flights()
            watched.lease.holds = True
            watched.table.watch = watched.lease

    def _lose(self, watched: _Watched, *, doubt: bool = False) -> None:
        if watched.source is None:
            return
        watched.source = None
        watched.others = frozenset()
        watched.lease.holds = False
        if watched.table.watch is watched.lease:
            watched.table.watch = None
        if watched.proven >= watched.left:
            return  # from there on this host knows itself what has changed
        self._engine.apply(Invalidation(watched.table.name, before=watched.proven, doubt=doubt))
