"""The bus: one engine's part in the fleet, from `start` to `close`.

    stream → reader → message ─┬─ forget    what its tables are called here → Forgetting
                               ├─ flush     as `mailmapd flush` on this host
                               └─ hears     Coverage → Watching: kept for long while somebody vouches
    feeds, flush → publisher → stream

Nothing here is waited for by a lookup, and nothing that happens to the server can do more than end the proof that
changes are known: then the ordinary times count from the last moment of which everything was known.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailmapd import __version__
from mailmapd.changes.following import Following
from mailmapd.changes.forgetting import Forgetting
from mailmapd.changes.touched import Touched
from mailmapd.cluster.coverage import Coverage
from mailmapd.cluster.members import Member, decode_member
from mailmapd.cluster.message import Codec, Hears, Message, NotUnderstood, Stranger
from mailmapd.cluster.publisher import Publisher
from mailmapd.cluster.reader import Position, Reader, order
from mailmapd.cluster.roll import Roll
from mailmapd.cluster.server import Entry, Server
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.cluster.shared_answer import Place, SharedAnswer
from mailmapd.cluster.standing import Standing
from mailmapd.cluster.watching import Watching, server_digest
from mailmapd.databases.settings import ChangesSettings, MysqlSettings
from mailmapd.engine.engine import Engine
from mailmapd.engine.invalidation import Invalidation
from mailmapd.errors import ClusterError
from mailmapd.tasks import end_tasks

if TYPE_CHECKING:
    from mailmapd.changes.following import FollowedDatabase
    from mailmapd.cluster.second_level import SecondLevel

log = logging.getLogger(__name__)

TICK = 0.5  # seconds between two looks at what still holds
REPORT = 1.0  # seconds between two reports of how this host is
_ROLL = 10  # reports between two looks at those of the others
_CONFIRM = 0.01  # seconds until it is looked who has confirmed; each time a half more, up to …
_LONGEST_CONFIRM = 0.2  # … these
_TWIN = 5.0  # seconds in which a record of another run was written by a daemon that is still there

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


class Bus:
    """Reads and writes the stream of `settings` for a part of the fleet."""

    def __init__(
        self,
        settings: ClusterSettings,
        part: Part,
        clock: Callable[[], float],
        second: SecondLevel | None = None,
    ) -> None:
        self.reason = "not reached yet"
        self.counts: Counter[str] = Counter()
        self.gaps = 0
        self.twin = False
        self.last_flush = ""  # the id of the last one of any host
        self.run = secrets.token_hex(8)
        self._settings = settings
        self._part = part
        self._clock = clock
        self._server = Server(settings)
        self._codec = Codec(settings.key)
        self.second = second
        self._config = _digest_of(part.digests)
        self._names: dict[str, list[str]] = {}
        for name, digest in part.digests.items():
            self._names.setdefault(digest, []).append(name)
        tables = {name: part.engine.tables[name] for name in part.digests}
        self._forgetting = Forgetting(part.engine, tables)
        self._coverage = Coverage(self._names)
        self._watching = Watching(part.engine, part.databases, part.digests, self._coverage, clock)
        self._publisher = Publisher(
            self._server,
            self._codec,
            (settings.host, self.run),
            seen=lambda: self._reader.position.last_id,
            hears=self.hears,
            clock=clock,
            commands=lambda touched: [] if second is None else second.commands(touched),
            second="" if second is None else self._config,
        )
        self.roll = Roll(settings.host, self._codec, clock)
        self._reader = Reader(
            self._server,
            Position(),
            clock,
            heard=self._heard,
            proven=self._prove,
            missed=self._missed,
            changed=self._changed,
        )
        self._applied = Position()
        self._flushing: set[asyncio.Task[None]] = set()
        self._proven = clock()
        self._doubted = False
        self._believes = False
        # What was loaded, as long as it is not settled: the servers that were asked, by tables' digests
        self._in_doubt: dict[str, frozenset[str]] = {}
        self._report = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def lag(self) -> float:
        """Return how many seconds ago it was last proven that nothing was missed."""
        return max(self._clock() - self._proven, 0.0)

    @property
    def followers(self) -> list[str]:
        """Return the hosts whose word holds now."""
        return sorted(
            {name[0] for name, source in self._coverage.sources.items() if source.follows}
        )

    @property
    def sent(self) -> int:
        """Return how many messages were told."""
        return self._publisher.sent

    @property
    def position(self) -> Position:
        """Return until where everything has been carried out."""
        return self._applied

    def watched(self) -> dict[str, list[str]]:
        """Return the tables that are watched because of others, by database."""
        return self._watching.watched()

    def start(self, place: Standing | Position | None) -> None:
        """Begin where memory stands that was written down or kept, at a position, or where this host's record says."""
        position = None if isinstance(place, Standing) else place
        if isinstance(place, Standing) and place.stream == self._settings.stream:
            position = place.position
            self._coverage.expect(place.sources, self._clock())
            self._in_doubt = dict(place.asked)
        loop = asyncio.get_running_loop()
        self._watching.start()
        if self.second is not None:
            self.second.start(self._part.engine, self._part.digests, self)
        self._tasks = [loop.create_task(self._run(position)), loop.create_task(self._tick())]

    async def close(self, *, left: bool = False) -> None:
        """End; with `left` nobody is to wait for this host until it comes back."""
        self._publisher.vouch_no_more()  # at once: it is told of no change from now on
        await end_tasks(self._tasks)
        if self.second is not None:
            await self.second.close()
        await self._publisher.close()
        await self._watching.close()
        await asyncio.gather(*self._flushing, return_exceptions=True)
        await self._forgetting.close()
        if left and not self.reason and self._applied.history:
            try:
                await self._server.write_member(
                    self._settings.host, self._member(left=True).encode()
                )
            except ClusterError as error:
                log.info("cluster: nobody could be told that this host ends: %s", error)
        await self._server.close()

    async def standing(self) -> tuple[Standing, list[str]] | None:
        """Return what memory is good for from now on, and of which tables, or None while nothing is proven.

        Whatever is in memory when this returns is as it was there, or newer.
        """
        if self.reason or self._doubted or not self._applied.history:
            return None
        sources, asked = self._watching.words()
        standing = Standing(self._settings.stream, self._applied, tuple(sources), asked)
        await self._forgetting.catch_up()
        return standing, [name for name, digest in self._part.digests.items() if digest in asked]

    def believe(self) -> None:
        """Believe what was loaded as soon as that is proven: all of it is there."""
        self._believes = True

    def _settle(self) -> None:
        """Believe what was loaded of tables of which every change was told since it was written down."""
        if self._believes and self._in_doubt:
            for table in self._watching.settle(self._in_doubt):
                self._in_doubt.pop(self._part.digests[table.name], None)
                table.cache.settle(believed=True)

    def touched(self, touched: Touched) -> None:
        """Tell the others what this host has just forgotten, because its feed heard of it."""
        named = self._by_digest(touched)
        if named:
            self._publisher.touched(named)

    def _by_digest(self, touched: Touched) -> Touched:
        """Return what was touched in terms that all hosts share."""
        digests = self._part.digests
        named = Touched(whole={digests[name] for name in touched.whole if name in digests})
        named.keys.update(
            (digests[name], keys) for name, keys in touched.keys.items() if name in digests
        )
        named.parts.update(
            (digests[name], parts) for name, parts in touched.parts.items() if name in digests
        )
        return named

    def beat(self) -> None:
        """Tell the others now what this host hears."""
        self._publisher.beat()

    def hears(self) -> dict[str, Hears]:
        """Return what this host's feeds can vouch for."""
        following = self._part.following()
        if following is None:
            return {}
        found = {name: self._hears(database) for name, database in following.databases.items()}
        return {name: hears for name, hears in found.items() if hears is not None}

    def _hears(self, database: FollowedDatabase) -> Hears | None:
        if not database.lease.holds or not all(feed.identity for feed in database.feeds):
            return None
        digests = self._part.digests
        return Hears(
            database.epoch,
            max(self._clock() - database.last_heard, 0.0),
            frozenset(server_digest(feed.identity) for feed in database.feeds),
            frozenset(digests[table] for table in database.followed if table in digests),
        )

    async def flush(self, request: Mapping[str, Any], applied: Iterable[Invalidation] = ()) -> str:
        """Have every host carry a flush out; return the message's id. Raises ClusterError.

        The second level forgets what was `applied` here.
        """
        touched = Touched()
        for invalidation in applied:
            if invalidation.keys is None or invalidation.unseen:
                touched.add_table(invalidation.table)
            else:
                for key in invalidation.keys:
                    touched.add_key(invalidation.table, key)
        return await self._publisher.flush(request, self._by_digest(touched))

    def may_ask(self, table: str, sql_key: bytes) -> bool:
        """Return whether this host knows of no change of a key that it has not told yet. See `Trust`."""
        return not self._publisher.is_untold(self._part.digests[table], sql_key)

    def place(self, table: str) -> Place | None:
        """Return where this host stands: the last message it has read, and which servers answer a table's questions."""
        servers, position = self._watching.servers(table), self._reader.position
        if servers is None or not position.history or self.reason:
            return None
        return Place(order(position.last_id), position.history, servers)

    def believes(self, table: str, answer: SharedAnswer) -> bool:
        """Return whether all that changed since an answer was asked for elsewhere was told, and will be."""
        if self.reason or not answer.is_of(self._reader.position.history):
            return False
        following = self._part.following()
        for name, database in {} if following is None else following.databases.items():
            if self._part.engine.tables[table].watch is database.lease:
                return self._follows_since(name, database, table, answer)
        return self._watching.believes(table, answer)

    def _follows_since(
        self, name: str, database: FollowedDatabase, table: str, answer: SharedAnswer
    ) -> bool:
        """Return whether this host, or another one before it, has told every change since an answer was asked for."""
        hears = self._hears(database)
        if hears is None or not hears.servers >= answer.servers:
            return False
        began, moment = self._publisher.began(name, hears)
        if not began:
            return False
        digest = self._part.digests[table]
        return order(began) <= answer.last_id or any(
            source.proven >= moment
            for source in self._coverage.reaching_back(
                hears.servers, digest, answer.last_id, self._clock()
            )
        )

    async def unconfirmed(self, identity: str, seconds: float) -> list[str]:
        """Wait until every host has carried a message out; return those that have not. Raises ClusterError."""
        deadline, pause = self._clock() + seconds, _CONFIRM
        while True:
            members = await self.members()
            late = [
                name
                for name, member in members.items()
                if name != self._settings.host and not self.roll.has_done(name, member, identity)
            ]
            if not late or self._clock() >= deadline:
                return late
            await asyncio.sleep(min(pause, max(deadline - self._clock(), 0.0)))
            pause = min(pause * 1.5, _LONGEST_CONFIRM)

    async def members(self) -> dict[str, Member]:
        """Return every host, by name. Raises ClusterError."""
        records = await self._server.members()
        members, given_up = self.roll.take(records, written=self.counts["reports"] > 0)
        if given_up:
            await self._server.remove_members(given_up)
        return members

    async def _run(self, position: Position | None) -> None:
        """Find out where to begin, then read for ever."""
        while position is None:
            try:
                record = (await self._server.members()).get(self._settings.host, b"")
                member = decode_member(record)
                position = Position() if member is None else member.position
                if member is None:  # what was saved may be older than words that nobody kept for it
                    self._part.engine.apply(Invalidation(before=self._clock()))
            except ClusterError as error:
                self._changed(str(error))
                await asyncio.sleep(TICK)
        self._reader.position = position
        self._publisher.start()
        reporting = asyncio.create_task(self._write_reports())
        try:
            await self._reader.run()
        finally:
            await end_tasks([reporting])

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            try:
                self._watching.look()
                if self._doubted:
                    self._part.engine.apply(Invalidation(before=self._clock()))
                    self._doubted = False
            except Exception:
                log.exception("cluster: a defect of mailmapd; nothing is watched because of others")
                self._watching.lose()

    def _heard(self, entries: list[Entry]) -> None:
        """Carry messages out. Nothing that they say may end the reading of those behind them."""
        for identity, fields in entries:
            try:
                self._hear(identity, fields)
            except Stranger:
                self.counts["foreign"] += 1
            except NotUnderstood as error:
                self._doubt(error)
            except Exception:
                log.exception("cluster: a message ended in a defect of mailmapd")
                self._doubt(NotUnderstood("a defect of mailmapd"))
        self._watching.look()
        if not self._flushing:
            self._applied = self._reader.position

    def _hear(self, identity: str, fields: Mapping[bytes, bytes]) -> None:
        """Carry a message out. Raises Stranger, NotUnderstood."""
        message = self._codec.decode(fields)
        self.counts["received"] += 1
        if message.flush is not None:
            self.last_flush = identity
        if message.run != self.run:
            self._take(message)

    def _take(self, message: Message) -> None:
        if self.second is not None and not self._second_knows(message):
            self.second.doubt()
        if message.forget is not None:
            self._forgetting.forget(self._named(message.forget))
        if message.hears is not None:
            moment = self._reader.moment(message.seen)
            self._coverage.heard(message.host, message.run, message.hears, moment, self._clock())
        if message.flush is not None:
            task = asyncio.get_running_loop().create_task(self._flush(message.flush))
            self._flushing.add(task)
            task.add_done_callback(self._flushed)

    def _second_knows(self, message: Message) -> bool:
        """Return whether the second level was told what a message says, of all that it means here."""
        if message.flush is not None:
            return message.second == self._config
        return message.forget is None or bool(message.second)

    def _doubt(self, error: NotUnderstood) -> None:
        """Take a message for all that it may have said: that anything is to be forgotten."""
        if self.second is not None:
            self.second.doubt()
        if not self.counts["unknown"]:
            log.warning("cluster: a message is not understood: %s", error)
        self.counts["unknown"] += 1
        self._doubted = True

    async def _flush(self, request: Mapping[str, Any]) -> None:
        try:
            await self._part.flush(request)
        except NotUnderstood as error:
            self._doubt(error)
        except Exception:
            log.exception("cluster: a flush of another host ended in a defect of mailmapd")
            self._doubted = True

    def _flushed(self, task: asyncio.Task[None]) -> None:
        self._flushing.discard(task)
        if not self._flushing:
            self._applied = self._reader.position
            self._report.set()

    def _named(self, touched: Touched) -> Touched:
        """Return what was touched by the names that tables have here."""
        named = Touched()
        for digest in touched.whole:
            named.whole.update(self._names.get(digest, ()))
        for digest, keys in touched.keys.items():
            named.keys.update((name, keys) for name in self._names.get(digest, ()))
        for digest, parts in touched.parts.items():
            named.parts.update((name, parts) for name in self._names.get(digest, ()))
        return named

    def _prove(self, moment: float) -> None:
        self._proven = max(self._proven, moment)
        self._coverage.prove()
        self._watching.look()
        self._settle()
        if not self._flushing:
            self._applied = self._reader.position

    def _missed(self, reason: str) -> None:
        """Something may have been missed since the last proof: a change, or a flush of any table."""
        self.gaps += 1
        log.warning("cluster: %s; what is known counts from %.1f s ago", reason, self.lag)
        self._coverage.forget()
        self._in_doubt.clear()
        self._watching.look()
        if self.second is not None:
            self.second.reconnect()
        self._part.engine.apply(Invalidation(before=self._proven))

    def _changed(self, reason: str) -> None:
        if reason and not self.reason:
            log.warning("cluster: %s", reason)
        elif not reason and self.reason:
            log.info("cluster: reading %s at %s", self._settings.stream, self._settings.place)
        self.reason = reason

    async def _write_reports(self) -> None:
        while True:
            try:
                if self._applied.history:
                    record = self._member().encode()
                    before = await self._server.write_member(self._settings.host, record)
                    if not before and self.counts["reports"]:
                        self.roll.lost()
                    self._look_for_twin(decode_member(before))
                    if self.counts["reports"] % _ROLL == 1:
                        await self.members()
            except ClusterError as error:
                log.debug("cluster: %s", error)
            except Exception:
                log.exception("cluster: a defect of mailmapd; this host's record is not written")
            try:
                async with asyncio.timeout(REPORT):
                    await self._report.wait()
            except TimeoutError:
                pass  # it is time
            self._report.clear()

    def _look_for_twin(self, before: Member | None) -> None:
        """See whether another daemon writes this host's record, too."""
        other = before is not None and before.run != self.run and not before.left
        fresh = before is not None and abs(time.time() - before.at) < _TWIN
        twin = other and fresh and self.counts["reports"] > _TWIN / REPORT
        self.counts["reports"] += 1
        if twin and not self.twin:
            log.error("cluster: another daemon calls itself %s, too", self._settings.host)
        self.twin = twin

    def _member(self, *, left: bool = False) -> Member:
        applied = self._applied
        return Member(
            run=self.run,
            version=__version__,
            at=time.time(),
            last_id=applied.last_id,
            added=applied.added,
            history=applied.history,
            lag=round(self.lag, 3),
            ratio=_ratio(self._part.engine),
            config=self._config,
            follows=tuple(self.hears()),
            watched=sum(len(tables) for tables in self.watched().values()),
            left=left,
        ).signed(self._settings.host, self._codec)


def _ratio(engine: Engine) -> float | None:
    """Return the part of questions to tables that memory has answered."""
    tables = engine.tables.values()
    hits = sum(table.hits + table.negative_hits for table in tables)
    asked = hits + sum(table.misses + table.coalesced for table in tables)
    return round(hits / asked, 4) if asked else None


def _digest_of(digests: Mapping[str, str]) -> str:
    """Return a digest of what a host's tables are called, and what they ask."""
    return server_digest(_flat(sorted(digests.items())))


def _flat(pairs: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(text for pair in pairs for text in pair)
