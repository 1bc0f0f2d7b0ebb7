"""A feed: one server's log is followed, and what it says is forgotten, for as long as that is proven.

    start      read the catalog; find out who reads what; ask for the log from where everything is visible
    events     what they touch is forgotten at once, and again behind the fence
    DDL        the catalog is read anew; tables that are read in another way now are forgotten
    the end    of the stream, of the fence's connection, or of the server's patience: the feed is lost, everything that
               was known counts from the last proof, and after a pause it starts again: from where it was, if the
               server proves that its log is still the same, so that what was known is believed again; else anew

Whatever goes wrong here ends the feed, never a lookup.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from mailmapd.changes.backoff import Backoff
from mailmapd.changes.beginning import Beginning, NotProven
from mailmapd.changes.fence import FENCE_PAUSE, Fence
from mailmapd.changes.followed_host import FollowedHost, OtherServer
from mailmapd.changes.hearing import Hearing
from mailmapd.changes.kept_catalog import KeptCatalog
from mailmapd.changes.lease import PATIENCE
from mailmapd.changes.progress import Mark
from mailmapd.changes.readers import Readers
from mailmapd.changes.settlement import Arrival, SettledMark, Settlement
from mailmapd.changes.told import Told
from mailmapd.databases.host_list import HostAddress
from mailmapd.databases.mysql.binlog.events import Event
from mailmapd.databases.mysql.binlog.gtids import GtidError
from mailmapd.databases.mysql.binlog.session import CannotFollow, Session
from mailmapd.databases.mysql.binlog.stream import BinlogStream, LogLost, SameServerId
from mailmapd.databases.mysql.host import Expected
from mailmapd.databases.mysql.identity import Identity
from mailmapd.databases.mysql.opener import MysqlOpener
from mailmapd.engine.definition import Definition
from mailmapd.errors import DEFECT, DatabaseError, DatabaseUnavailable
from mailmapd.tasks import end_tasks

log = logging.getLogger(__name__)

RETRY_UNFIT = 600.0  # seconds until a log is tried again that cannot be followed as things are
CATALOG_PAUSE = 1.0  # seconds between two readings of the catalog, or as long as one of them took
CATCH_UP = 10.0  # seconds for which the log may be behind what readers see
_CATCH_UP_PAUSE = 0.02  # seconds between looks whether it still is
_CHECK = 0.25  # seconds between looks whether the server is still heard of
_SWEEP_PAUSE = 0.001  # seconds between looks whether all keys have been looked for


class Feed:
    """Follows one server for the tables of one database. `alive` says that what it has said so far is all there is.

    `identity` is what tells its server from others, once it is alive. With a `mark` it goes on from there. Of a replica
    without a log it reads the log of its source, which is one of the `others`.
    """

    def __init__(
        self,
        openers: tuple[MysqlOpener, MysqlOpener],
        address: HostAddress,
        definitions: Mapping[str, Definition],
        schema: str,
        *,
        told: Told,
        clock: Callable[[], float],
        mark: Mark | None = None,
        others: Sequence[HostAddress] = (),
    ) -> None:
        self.host = address.label
        self.alive = False
        self.reason = "not started yet"
        self.last_heard = 0.0
        self.identity: Identity = ()
        self._host = FollowedHost(openers, address, others)
        self._told = told
        self._clock = clock
        self._backoff = Backoff(clock)
        self._stream: BinlogStream | None = None
        self._failure: DatabaseError | None = None
        self._ended = asyncio.Event()  # the stream has; `_failure` says why
        self._events = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._mark = mark  # where to go on from
        self._catalog = KeptCatalog(definitions, schema)
        self._fence = Fence(told, definitions)
        self._hearing = Hearing(told, self._catalog, self._fence, self._skip)
        self._settled = SettledMark(self._catalog, self._fence, clock)
        self._arrival: Arrival | None = None
        self.counts = self._hearing.counts
        self._is_broken = False  # by a defect of ours: what was heard may not have been forgotten

    @property
    def readers(self) -> Readers:
        """Return who reads what, and what is not followed."""
        return self._catalog.readers

    @property
    def last_change(self) -> float | None:
        """Return when a row was last changed."""
        return self._hearing.last_change

    @property
    def settled_mark(self) -> Mark | None:
        """Return a place until which everything is forgotten for the last time, and nothing is lacking."""
        if not self.alive or self._host.source is not None:
            return None
        self._settle()
        return self._settled.mark

    def start(self) -> None:
        """Begin to follow, and go on until `close`."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            await end_tasks([self._task])
        self._told.expect(self.host, None)
        self._end_stream()

    async def gtids(self) -> str:
        """Return the transactions that the server has, as others of its replication call them. Raises DatabaseError."""
        return await self._host.gtids()

    async def catch_up(self, others: Iterable[str] = ()) -> None:
        """Wait until all that the server shows now has been heard of, and forgotten for the last time.

        Before that it has to have all that other servers had, by their `gtids`. Raises DatabaseError.
        """
        try:
            async with asyncio.timeout(CATCH_UP):
                await self._host.wait_until_it_has(others)
                shown = await self._host.shown()
                await self._wait_until(lambda: self._hearing.progress.has_heard(shown))
                settlement = Settlement(self._catalog, self._fence)
                await self._wait_until(lambda: settlement.is_done)
        except TimeoutError:
            raise DatabaseUnavailable(f"{self.host}: it is behind, or its log") from None

    async def _wait_until(self, seen: Callable[[], bool]) -> None:
        """Wait until the feed is alive and something has come."""
        while not (self.alive and seen()):  # noqa: ASYNC110  # seldom: nobody sets an event for it
            await asyncio.sleep(_CATCH_UP_PAUSE)

    async def unheard(self, table: str) -> str:
        """Return in which way the catalog says something else of a table than the log has told; nothing if in none."""
        try:
            session = await self._host.open()
            try:
                return await self._catalog.unheard(session, table)
            finally:
                session.close()
        except DatabaseError:
            return ""

    async def _run(self) -> None:
        while True:
            pause: float | None = None
            try:
                await self._follow()
            except CannotFollow as error:
                self._lose(str(error))
                pause = RETRY_UNFIT
            except (NotProven, LogLost) as error:
                if self._give_up_the_mark(error):
                    continue
                self._lose(str(error))
            except OtherServer as error:
                self._lose(str(error))
                self._forget_the_mark()  # it is no place in what that server has shown
            except SameServerId as error:
                self._leave_the_server_id(error)
            except DatabaseError as error:
                self._lose(str(error))
            except Exception:
                log.exception("changes of %s: a defect of mailmapd ended the feed", self.host)
                self._is_broken = True
                self._lose(DEFECT)
            await asyncio.sleep(self._backoff.pause() if pause is None else pause)

    def _give_up_the_mark(self, error: DatabaseError) -> bool:
        """Begin anew where it cannot be gone on from the mark; return whether that was it."""
        if self.alive or self._mark is None:
            return False
        log.warning(
            "changes of %s: what was known counts from the last proof: %s", self.host, error
        )
        self._forget_the_mark()
        return True

    def _forget_the_mark(self) -> None:
        self._mark = None
        self._settled.forget()
        self._hearing.forget_progress()

    def _leave_the_server_id(self, error: SameServerId) -> None:
        taken = self._host.replica.server_id
        self._host.replica.choose_server_id()
        self._lose(str(error))
        log.warning(
            "changes of %s: another replica has come with the server id %d that mailmapd had chosen; it takes another "
            "one. If this is said again, look for replicas that share an id (SHOW REPLICA HOSTS; on MariaDB SHOW SLAVE "
            "HOSTS), and give each its own server_id",
            self.host,
            taken,
        )

    async def _follow(self) -> None:
        """Follow until that ends with an error."""
        session = await self._host.open()
        try:
            if await self._host.find_log(session):
                self._mark = None
                self._settled.forget()
                self._hearing.by_source = self._host.source is not None
                self._fence.clear()
            identity = await self._host.find_identity(session)
            if self._mark is None:
                self._told.missed()
                # Nor is there anything to be proven visible: the stream begins where everything before is
                self._forget_the_mark()
            beginning = await self._host.find_beginning(session, self._mark, identity)
            if self._mark is not None and session.is_mariadb and identity != self.identity:
                self._fence.leave_server()
            self.identity = identity
            # Behind the place where the stream begins, so that it tells of what is altered later
            readers = await self._catalog.find(session)
            self._begin(readers, beginning)
            self._told.expect(self.host, Expected(identity, self._meet_another_server))
            self._stream, _ = await self._host.replica.open(
                self._hearing.wanted,
                self._hear,
                self._end,
                self._hearing.progress.place,
                identity if self._host.source is None else (),
            )
            self.last_heard = self._clock()
            await self._work_until_lost(session)
        finally:
            session.close()
            self._end_stream()

    def _begin(self, readers: Readers, beginning: Beginning) -> None:
        self._told.forget(self._catalog.begin(readers))
        self._hearing.begin(beginning.progress)
        self._arrival = Arrival(self.host, beginning, self._catalog, self._fence, self._told)
        self._settled.begin()
        self._failure = None
        self._ended.clear()
        self._events.clear()

    def _is_known(self) -> bool:
        """Return whether everything is known that readers saw when the feed began. Raises NotProven."""
        if self._host.source is not None:  # what it shows later is pending, perhaps for hours
            return not self._catalog.is_old
        return self._arrival is not None and self._arrival.is_there()

    def _be_alive(self) -> None:
        self.alive, self.reason = True, ""
        self._backoff.begun()
        self._told.look()
        log.info(
            "changes of %s are followed%s: %d tables, %d not",
            self.host,
            "" if self._mark is None else " without a gap",
            len(self.readers.followed),
            len(self.readers.not_followed),
        )

    def _settle(self) -> None:
        """Note how far everything is forgotten for the last time."""
        self._settled.look(lambda: self._hearing.progress.mark(self.identity))

    async def _work_until_lost(self, session: Session) -> None:
        """Work until the feed has ended. Raises DatabaseError then, also in the middle of a question."""
        try:
            async with asyncio.timeout(None) as patience:
                beside = [
                    asyncio.create_task(self._watch(patience)),
                    asyncio.create_task(self._beside(self._keep_catalog)),
                    asyncio.create_task(self._beside(self._compare)),
                ]
                if self._host.source is not None:
                    beside.append(asyncio.create_task(self._beside(self._compare_with_source)))
                try:
                    while True:
                        await self._work(session)
                finally:
                    for task in beside:
                        task.cancel()
        except TimeoutError:
            raise self._failure or self._silence() from None

    def _silence(self) -> DatabaseError:
        return DatabaseUnavailable(f"{self.host}: nothing was heard for {PATIENCE:g} s")

    async def _watch(self, patience: asyncio.Timeout) -> None:
        """End the work, whatever it waits for, when the stream has ended or the server is not heard of."""
        while not self._ended.is_set() and self._clock() - self.last_heard <= PATIENCE:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CHECK):
                    await self._ended.wait()
        patience.reschedule(0)

    async def _work(self, session: Session) -> None:
        """Pass the fence with what is pending; wait for more. Raises DatabaseError when that fails."""
        self._events.clear()
        if not self.alive and self._is_known():
            self._be_alive()
        pending = self._fence.pending
        if not pending or self._settled.is_due:
            self._settle()
        if pending:
            count = await self._host.passed(session, pending, self._hearing.progress)
            await self._fence.forget_visible(session, count)
            if not count:
                await asyncio.sleep(FENCE_PAUSE)
        elif self._arrival is not None and self._arrival.is_sweeping and not self.alive:
            await asyncio.sleep(_SWEEP_PAUSE)
        else:
            await self._events.wait()

    async def _beside(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something beside the work. The feed ends when that fails."""
        try:
            await work()
        except DatabaseError as error:
            self._end(error)
        except Exception:
            log.exception("changes of %s: a defect of mailmapd ended the feed", self.host)
            self._end(DatabaseError(DEFECT))

    async def _compare(self) -> None:
        """See that new connections reach the server that is followed, as it has to be. Raises DatabaseError."""
        await self._host.compare(self.identity)

    async def _compare_with_source(self) -> None:
        """See that the replica shows nothing that its source's log does not say. Raises DatabaseError."""
        has_heard = self._hearing.progress.has_heard
        await self._host.compare_with_source(has_heard, self._clock)

    def _meet_another_server(self) -> None:
        """End the feed: a connection for lookups reaches another server, of whose changes nothing is heard."""
        self._end(OtherServer(f"{self.host}: a connection of lookups reaches another server"))

    async def _keep_catalog(self) -> None:
        """Read the catalog anew after DDL, on a connection of its own, so that nothing else waits for it.

        Raises DatabaseError.
        """
        while True:
            await self._catalog.wait_until_altered()
            begun = self._clock()
            session = await self._host.open()
            try:
                # MySQL says what a table was until the statement is committed
                await self._host.wait_until_shown(session, self._hearing.progress)
                await self._read_again(session)
            finally:
                session.close()
            self._catalog.be_read()
            self._events.set()
            await asyncio.sleep(max(CATALOG_PAUSE, self._clock() - begun))

    async def _read_again(self, session: Session) -> None:
        """Take the catalog as it is after DDL; forget tables that are read in another way, or not known any more."""
        touched = await self._catalog.read_again(session)
        if self._stream is not None:
            self._stream.reader.forget_shapes()
        self._hearing.read_otherwise(touched)
        if touched:
            self._events.set()
        self._told.look()

    def _skip(self, schema: str, table: str) -> None:
        """Read no more rows of a table until the transaction ends."""
        if self._stream is not None:
            self._stream.reader.skip(schema, table)

    def _hear(self, events: Iterable[Event]) -> None:
        """Forget at once what events touch. A defect of ours in that ends the feed."""
        if self.alive and self._clock() - self.last_heard > PATIENCE:
            # This process has stood still. What comes now was sent nobody knows when, and proves nothing of now
            self._end(self._silence())
            return
        self.last_heard = self._clock()
        try:
            if self._hearing.take(events, self.last_heard) or not self.alive:
                self._events.set()
            if self._hearing.progress.fault:
                self._end(NotProven(f"{self.host}: {self._hearing.progress.fault}"))
        except GtidError as error:  # what came before it may not have been forgotten
            self._is_broken = True
            self._end(error)
        except Exception:
            log.exception("changes of %s: a defect of mailmapd ended the feed", self.host)
            self._is_broken = True
            self._end(DatabaseError(DEFECT))

    def _end(self, error: DatabaseError) -> None:
        self._failure = error
        self._ended.set()

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _lose(self, reason: str) -> None:
        """Say that nothing is proven any more from the last word on."""
        was_alive, self.alive = self.alive, False
        if was_alive:
            log.warning("changes of %s are not followed any more: %s", self.host, reason)
        elif reason != self.reason:
            log.info("changes of %s are not followed: %s", self.host, reason)
        self.reason = reason
        if self._host.source is not None:
            self._mark = None
        elif was_alive:
            self._mark = (
                self._hearing.progress.mark(self.identity) or self._settled.mark or self._mark
            )
        else:
            self._mark = self._hearing.progress.mark(self.identity) or self._mark
        if self._is_broken:
            self._is_broken = False
            self._forget_the_mark()
        if was_alive:
            self._told.doubt(self.last_heard)
        self._told.look()
