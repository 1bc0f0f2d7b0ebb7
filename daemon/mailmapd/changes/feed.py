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
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from mailmapd.changes.backoff import Backoff
from mailmapd.changes.beginning import Beginning, NotProven, at_the_end, behind
from mailmapd.changes.catalog import read_catalog
from mailmapd.changes.fence import Pending, add_pending, passed, wait_until_visible
from mailmapd.changes.lease import PATIENCE
from mailmapd.changes.progress import Mark, Progress, order
from mailmapd.changes.readers import Readers, find_readers
from mailmapd.changes.reverse import ask
from mailmapd.changes.selection import Asking, Selection
from mailmapd.changes.source import (
    applied,
    applied_place,
    check_read_only,
    find_source,
    wait_until_applied,
)
from mailmapd.changes.touched import Touched
from mailmapd.databases.host_list import HostAddress
from mailmapd.databases.mysql.binlog.events import (
    Event,
    NotUnderstood,
    RowsChanged,
    RowsUnreadable,
    StatementLogged,
    TransactionEnded,
)
from mailmapd.databases.mysql.binlog.gtids import GtidError
from mailmapd.databases.mysql.binlog.stream import (
    CATALOG_ANSWER,
    MAX_CATALOG,
    BinlogStream,
    CannotFollow,
    LogLost,
    NoLog,
    Place,
    Replica,
    SameServerId,
    Session,
    open_session,
)
from mailmapd.databases.mysql.opener import MysqlOpener
from mailmapd.engine.definition import Definition
from mailmapd.errors import DEFECT, DatabaseError, DatabaseUnavailable
from mailmapd.tasks import end_tasks

log = logging.getLogger(__name__)

RETRY_UNFIT = 600.0  # seconds until a log is tried again that cannot be followed as things are
# Changed rows of a table in one transaction, above which all of its readers are forgotten
BULK = 1000
CATALOG_PAUSE = 1.0  # seconds between two readings of the catalog, or as long as one of them took
CATCH_UP = 10.0  # seconds for which the log may be behind what readers see
_CATCH_UP_PAUSE = 0.02  # seconds between looks whether it still is
_CHECK = 0.25  # seconds between looks whether the server is still heard of
_FENCE_PAUSE = 0.0005  # seconds between two questions whether a change is visible
_COMPARE = 1.0  # seconds between two looks whether a replica shows only what its source's log says
_SWEEP_PAUSE = 0.001  # seconds between looks whether all keys have been looked for

_KINDS: Mapping[type, str] = {
    RowsChanged: "row",
    RowsUnreadable: "unknown",
    StatementLogged: "statement",
    NotUnderstood: "unknown",
}


class Told(Protocol):
    """Told what a feed hears: the tables of one database."""

    def forget(self, touched: Touched) -> None:
        """Forget what was touched."""
        ...

    def visible(self, tables: Iterable[str]) -> None:
        """Hear of tables that were forgotten as a whole, when nothing is pending that drops them again."""
        ...

    def doubt(self, before: float) -> None:
        """Have everything that was stored before a moment count from there, until the feed is known to lack nothing."""
        ...

    def missed(self) -> None:
        """Hear that the feed begins anew: nobody knows what was changed before."""
        ...

    def look(self) -> None:
        """Look at what is followed now."""
        ...

    @property
    def sweeps_asked(self) -> int:
        """Return how often it was said by some of its parts which keys are to be forgotten."""
        ...

    def has_swept(self, asked: int) -> bool:
        """Return whether all these keys have been looked for since `sweeps_asked` was `asked`."""
        ...


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
        self.readers = Readers()
        self.counts: Counter[str] = Counter()
        self.last_heard = 0.0
        self.last_change: float | None = None
        self.identity: tuple[str, ...] = ()
        self._opener, replication = openers
        self._replica = Replica(replication, address)
        self._replication = replication
        self._others = others
        self._source: HostAddress | None = None
        self._address = address
        self._definitions = definitions
        self._schema = schema
        self._told = told
        self._clock = clock
        self._backoff = Backoff(clock)
        self._stream: BinlogStream | None = None
        self._failure: DatabaseError | None = None
        self._ended = asyncio.Event()  # the stream has; `_failure` says why
        self._events = asyncio.Event()
        self._altered = asyncio.Event()  # by DDL that has not been read yet
        self._task: asyncio.Task[None] | None = None
        self._pending: list[Pending] = []
        self._elsewhere: list[Pending] = []  # pending by places of a server that was here before
        self._mark = mark  # where to go on from
        self._settled: Mark | None = None  # until where everything is forgotten for the last time
        self._progress = Progress(Place(), is_mariadb=True)
        self._shown = Place()
        self._sweeps_due: int | None = (
            None  # since all of that was heard of: what is yet to be swept
        )
        self._rows: Counter[tuple[str, str]] = Counter()
        # Tables of which all was forgotten for the last time, or nearly so
        self._dropped: set[str] = set()
        self._selection = Selection(self.readers)
        self._catalog_is_old = False
        self._is_broken = False  # by a defect of ours: what was heard may not have been forgotten

    @property
    def is_settled(self) -> bool:
        """Return whether all that was heard of is proven visible, and forgotten for the last time."""
        return not (
            self._pending or self._elsewhere or self._catalog_is_old or self._events.is_set()
        )

    @property
    def settled_mark(self) -> Mark | None:
        """Return a place until which everything is forgotten for the last time, and nothing is lacking."""
        if not self.alive or self._source is not None:
            return None
        self._settle()
        return self._settled

    def start(self) -> None:
        """Begin to follow, and go on until `close`."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            await end_tasks([self._task])
        self._end_stream()

    async def catch_up(self) -> None:
        """Wait until all that the server shows now has been heard of, and forgotten for the last time.

        Raises DatabaseError.
        """
        session = await open_session(self._opener, self._address)
        try:
            shown = await self._now(session)
        finally:
            session.close()
        try:
            async with asyncio.timeout(CATCH_UP):
                # Asked for seldom: nobody sets an event for it
                while not (  # noqa: ASYNC110
                    self.alive and self._progress.has_heard(shown) and self.is_settled
                ):
                    await asyncio.sleep(_CATCH_UP_PAUSE)
        except TimeoutError:
            raise DatabaseUnavailable(f"{self.host}: its log is behind") from None

    async def unheard(self, table: str) -> str:
        """Return in which way the catalog says something else of a table than the log has told; nothing if in none."""
        known = self.readers
        try:
            session = await open_session(self._opener, self._address)
            try:
                now = await self._find_readers(session)
            finally:
                session.close()
        except DatabaseError:
            return ""
        if table in now.not_followed:
            return f"{now.not_followed[table]}, and no log says since when"
        if now.parents_of(table) != known.parents_of(table):
            return "a foreign key changes its rows, which the log does not say"
        return (
            ""
            if known.same(now, table)
            else "what it reads was altered, which the log does not say"
        )

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
        self._mark = self._settled = None
        self._progress = Progress(Place(), is_mariadb=True)
        self._pending.clear()
        self._elsewhere.clear()

    def _leave_the_server_id(self, error: SameServerId) -> None:
        taken = self._replica.server_id
        self._replica.choose_server_id()
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
        session = await open_session(self._opener, self._address)
        try:
            await self._find_log(session)
            identity = await self._find_identity(session)
            if self._mark is None:
                self._told.missed()
                # Nor is there anything to be proven visible: the stream begins where everything before is
                self._forget_the_mark()
            if self._source is not None:
                shown = await applied_place(session)
                beginning = Beginning(Progress(shown, is_mariadb=session.is_mariadb), shown)
            elif self._mark is None:
                beginning = await at_the_end(session)
            else:
                beginning = await behind(self._mark, session, identity)
                if session.is_mariadb and identity != self.identity:
                    self._elsewhere += self._pending
                    self._pending = []
            self.identity = identity
            # Behind the place where the stream begins, so that it tells of what is altered later
            readers = await self._find_readers(session)
            self._begin(readers, *beginning)
            self._stream, _ = await self._replica.open(
                self._wanted, self._hear, self._end, self._progress.place
            )
            self.last_heard = self._clock()
            await self._work_until_lost(session)
        finally:
            session.close()
            self._end_stream()

    async def _find_log(self, session: Session) -> None:
        """Find out whose log is to be read. Raises CannotFollow, DatabaseError."""
        source = None
        try:
            await session.check_fitness()
        except NoLog as error:
            source = await find_source(session, self._opener, self._others, error)
        if source != self._source:
            self._source, self._mark, self._settled = source, None, None
            self._pending.clear()
            self._elsewhere.clear()
            self._replica = Replica(self._replication, source or self._address)

    async def _now(self, session: Session) -> Place:
        """Return what every reader of the server sees now. Raises DatabaseError."""
        return await (session.visible_place() if self._source is None else applied_place(session))

    def _begin(self, readers: Readers, progress: Progress, shown: Place) -> None:
        before, self.readers = self.readers, readers
        if before.followed:
            self._told.forget(_read_otherwise(before, readers))
        self._selection = Selection(readers)
        self._dropped.clear()
        self._progress, self._shown, self._sweeps_due = progress, shown, None
        # Of the stream before, which counted its own commits. What was heard behind the place where this
        # one begins comes again, and is pending once more then
        for transaction in self._pending:
            is_behind = order(transaction.place) > order(progress.place)
            transaction.commits = 1 if is_behind else 0
        self._rows.clear()
        self._failure = None
        self._ended.clear()
        self._catalog_is_old = False
        self._altered.clear()
        self._events.clear()

    def _is_known(self) -> bool:
        """Return whether everything is known that readers saw when the feed began. Raises NotProven."""
        if self._source is not None:  # what it shows later is pending, perhaps for hours
            return not self._catalog_is_old
        if self._sweeps_due is None:
            if not (self._progress.has_heard(self._shown) and self.is_settled):
                return False
            if not self._progress.is_proven:
                raise NotProven(f"{self.host}: what was heard before is not in its log")
            self._sweeps_due = self._told.sweeps_asked
        return self._told.has_swept(self._sweeps_due)

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
        """Note how far everything is forgotten for the last time, if it is now."""
        if self.is_settled:
            self._settled = self._progress.mark(self.identity) or self._settled

    async def _find_readers(self, session: Session) -> Readers:
        ask_all = partial(session.rows, seconds=CATALOG_ANSWER, most=MAX_CATALOG)
        catalog = await read_catalog(ask_all)
        return await asyncio.to_thread(find_readers, self._definitions, catalog, self._schema)

    async def _find_identity(self, session: Session) -> tuple[str, ...]:
        """Return which server this is.

        Raises CannotFollow when two connections to the address reach two servers: a balancer stands between.
        """
        other = await open_session(self._opener, self._address)
        try:
            identity = await session.identity()
            if identity != await other.identity():
                raise CannotFollow(
                    f"{self.host}: connections reach different servers; name each of them in hosts"
                )
        finally:
            other.close()
        return identity

    async def _work_until_lost(self, session: Session) -> None:
        """Work until the feed has ended. Raises DatabaseError then, also in the middle of a question."""
        try:
            async with asyncio.timeout(None) as patience:
                beside = [
                    asyncio.create_task(self._watch(patience)),
                    asyncio.create_task(self._keep_catalog()),
                ]
                if self._source is not None:
                    beside.append(asyncio.create_task(self._compare_with_source()))
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
        if self._source is not None and not self.alive and self._is_known():
            self._be_alive()
        if not self._pending:
            self._events.clear()
            self._settle()
            if not self.alive and self._is_known():
                self._be_alive()
            if self.alive or self._sweeps_due is None:
                await self._events.wait()
            else:
                await asyncio.sleep(_SWEEP_PAUSE)
        if self._pending:
            if self._source is None:
                count = await passed(session, self._pending, self._progress)
            else:
                count = await applied(session, self._pending)
            await self._forget_visible(session, self._pending[:count])
            self._tell_visible()
            if not count:
                await asyncio.sleep(_FENCE_PAUSE)

    async def _forget_visible(self, session: Session, visible: list[Pending]) -> None:
        """Forget for the last time what was touched by transactions that are visible now.

        Reverse queries are asked now, and not at the event: they find keys by rows that transactions before this one
        have changed, which were perhaps not visible then. Raises DatabaseError.
        """
        if visible:
            visible[-1].is_asked = True
        for transaction in visible:
            if transaction.asking:
                await ask(session, transaction.asking, transaction.touched)
            # Not before: when the connection ends, they are asked again where the feed goes on
            self._pending.remove(transaction)
            self._told.forget(transaction.touched)
            self._dropped |= self._whole(transaction.touched)

    async def _compare_with_source(self) -> None:
        """End the feed when the replica shows what its source's log does not say, or others may write to it."""
        strange_since: float | None = None
        try:
            session = await open_session(self._opener, self._address)
            try:
                while True:
                    await check_read_only(session)
                    shown, now = await applied_place(session), self._clock()
                    if self._progress.has_heard(shown):
                        strange_since = None
                    elif strange_since is None:
                        strange_since = now
                    elif now - strange_since > PATIENCE:
                        raise DatabaseUnavailable(
                            f"{self.host}: it has changes that the log of {self._replica.host} does not say"
                        )
                    await asyncio.sleep(_COMPARE)
            finally:
                session.close()
        except DatabaseError as error:
            self._end(error)
        except Exception:
            log.exception("changes of %s: a defect of mailmapd ended the feed", self.host)
            self._end(DatabaseError(DEFECT))

    async def _keep_catalog(self) -> None:
        """Read the catalog anew after DDL, on a connection of its own, so that nothing else waits for it."""
        while True:
            await self._altered.wait()
            self._altered.clear()
            begun = self._clock()
            try:
                session = await open_session(self._opener, self._address)
                try:
                    # MySQL says what a table was until the statement is committed
                    if self._source is None:
                        await wait_until_visible(session, self._progress.place, _FENCE_PAUSE)
                    else:
                        while not await wait_until_applied(session, self._progress.reached):
                            pass
                    await self._read_again(session)
                finally:
                    session.close()
                self._catalog_is_old = self._altered.is_set()
                self._events.set()
            except DatabaseError as error:
                self._end(error)
                return
            except Exception:
                log.exception("changes of %s: a defect of mailmapd ended the feed", self.host)
                self._end(DatabaseError(DEFECT))
                return
            await asyncio.sleep(max(CATALOG_PAUSE, self._clock() - begun))

    async def _read_again(self, session: Session) -> None:
        """Take the catalog as it is after DDL; forget tables that are read in another way, or not known any more."""
        self._selection.begin_reading()
        before = self.readers
        self.readers = await self._find_readers(session)
        self._selection = self._selection.with_readers(self.readers)
        if self._stream is not None:
            self._stream.reader.forget_shapes()
        touched = _read_otherwise(before, self.readers)
        self._told.forget(touched)
        if touched:
            progress = self._progress
            add_pending(self._pending, Pending(progress.place, touched, [], progress.commits))
            self._events.set()
        self._told.look()

    def _wanted(self, schema: str, table: str, count: int) -> tuple[int, ...] | None:
        if self._rows[schema, table] > BULK:
            return None  # its readers are forgotten at the end of the transaction anyway
        return self.readers.wanted(schema, table, count)

    def _hear(self, events: Iterable[Event]) -> None:
        """Forget at once what events touch. A defect of ours in that ends the feed."""
        if self.alive and self._clock() - self.last_heard > PATIENCE:
            # This process has stood still. What comes now was sent nobody knows when, and proves nothing of now
            self._end(self._silence())
            return
        try:
            self._take(events)
        except GtidError as error:  # what came before it may not have been forgotten
            self._is_broken = True
            self._end(error)
        except Exception:
            log.exception("changes of %s: a defect of mailmapd ended the feed", self.host)
            self._is_broken = True
            self._end(DatabaseError(DEFECT))

    def _take(self, events: Iterable[Event]) -> None:
        """Forget at once what events touch, and remember it for the fence."""
        self.last_heard = self._clock()
        heard = Touched()
        for event in events:
            self._progress.add(event)
            if self._progress.fault:
                self._end(NotProven(f"{self.host}: {self._progress.fault}"))
                break
            if self._elsewhere and self._progress.is_proven:
                self._move_pending()
            if self._progress.repeats:
                continue
            kind = _KINDS.get(type(event))
            if kind is not None:
                self.counts[kind] += len(event.changes) if isinstance(event, RowsChanged) else 1
            if isinstance(event, RowsChanged):
                self.last_change = self.last_heard
                self._count(event.schema, event.table, len(event.changes), heard)
            if self._selection.add(event, heard):
                self._catalog_is_old = True
                self._altered.set()
            if isinstance(event, TransactionEnded | StatementLogged):
                self._rows.clear()
        asking = list(self._selection.asking)
        self._selection.asking.clear()
        if heard or asking:
            self._forget_twice(heard, asking)
        if heard or asking or not self.alive:
            self._events.set()
        self._tell_visible()

    def _forget_twice(self, heard: Touched, asking: list[Asking]) -> None:
        """Forget what was heard now, and behind the fence."""
        place = self._progress.place
        if self._source is not None:
            place = Place(gtid=self._progress.reached)
            # The replica does not have the rows yet by which it would find keys
            for question in asking:
                heard.add_table(question.reader.table)
            asking = []
        self._told.forget(heard)
        add_pending(self._pending, Pending(place, heard, asking, self._progress.commits))

    def _move_pending(self) -> None:
        """Have what waits for the fence wait for a place in the log of the server that has taken the other one's."""
        for transaction in self._elsewhere:
            transaction.place, transaction.is_asked = self._progress.place, False
            transaction.commits = self._progress.commits
        self._pending[:0] = self._elsewhere
        self._elsewhere.clear()

    def _count(self, schema: str, table: str, rows: int, heard: Touched) -> None:
        """Forget all readers of a table that changes in bulk, and of its children; pass over the rest of its rows."""
        name = (schema, table)
        self._rows[name] += rows
        if self._rows[name] > BULK and self._stream is not None:
            for reached in (name, *self.readers.children.get(name, ())):
                for reader in self.readers.tables_of(reached):
                    heard.add_table(reader)
            self._stream.reader.skip(schema, table)

    def _whole(self, touched: Touched) -> set[str]:
        """Return the engine's tables of which all is meant."""
        return set(self._definitions) if touched.everything else touched.whole

    def _tell_visible(self) -> None:
        """Tell of tables that were dropped whole, once no transaction is open or pending that drops them again."""
        if self._dropped and not self._rows:
            later: set[str] = set().union(*[self._whole(each.touched) for each in self._pending])
            self._told.visible(self._dropped - later)
            self._dropped &= later

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
        if self._source is not None:
            self._mark = None
        elif was_alive:
            self._mark = self._progress.mark(self.identity) or self._settled or self._mark
        else:
            self._mark = self._progress.mark(self.identity) or self._mark
        if self._is_broken:
            self._is_broken = False
            self._forget_the_mark()
        if was_alive:
            self._told.doubt(self.last_heard)
        self._told.look()


def _read_otherwise(before: Readers, now: Readers) -> Touched:
    """Return the tables that are read in another way, or not known any more."""
    touched = Touched()
    for table in before.followed | now.followed:
        if not before.same(now, table):
            touched.add_table(table)
    return touched
