"""A feed: one server's log is followed, and what it says is forgotten, for as long as that is proven.

    start      read the catalog; find out who reads what; ask for the log from where everything is visible
    events     what they touch is forgotten at once, and again behind the fence
    DDL        the catalog is read anew; tables that are read in another way now are forgotten
    the end    of the stream, of the fence's connection, or of the server's patience: the feed is lost, everything that
               was known counts from the last proof, and after a pause it starts again

Whatever goes wrong here ends the feed, never a lookup.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial

from mailmapd.changes.catalog import read_catalog
from mailmapd.changes.fence import Pending, add_pending, order, passed, wait_until_visible
from mailmapd.changes.lease import PATIENCE
from mailmapd.changes.readers import Readers, find_readers
from mailmapd.changes.reverse import ask
from mailmapd.changes.selection import Selection
from mailmapd.changes.touched import Touched
from mailmapd.databases.host_list import HostAddress
from mailmapd.databases.mysql.binlog.commands import gtid_numbers
from mailmapd.databases.mysql.binlog.events import (
    Event,
    Heartbeat,
    LogRotated,
    NotUnderstood,
    RowsChanged,
    RowsUnreadable,
    StatementLogged,
    TransactionBegun,
    TransactionEnded,
)
from mailmapd.databases.mysql.binlog.stream import (
    CATALOG_ANSWER,
    MAX_CATALOG,
    BinlogStream,
    CannotFollow,
    Place,
    Replica,
    Session,
    open_session,
)
from mailmapd.databases.mysql.opener import MysqlOpener
from mailmapd.engine.definition import Definition
from mailmapd.errors import DEFECT, DatabaseError, DatabaseUnavailable

log = logging.getLogger(__name__)

RETRY = 1.0  # seconds until a lost feed starts again
RETRY_UNFIT = 600.0  # the same of one that cannot be as things are
BULK = (
    1000  # changed rows of a table in one transaction, above which all of its readers are forgotten
)
CATALOG_PAUSE = 1.0  # seconds between two readings of the catalog, or as long as one of them took
CATCH_UP = 10.0  # seconds for which the log may be behind what readers see
_CATCH_UP_PAUSE = 0.02  # seconds between looks whether it still is
_CHECK = 0.25  # seconds between looks whether the server is still heard of
_FENCE_PAUSE = 0.0005  # seconds between two questions whether a change is visible

_KINDS: Mapping[type, str] = {
    RowsChanged: "row",
    RowsUnreadable: "unknown",
    StatementLogged: "statement",
    NotUnderstood: "unknown",
}

Forget = Callable[[Touched], None]
"""Forgets what was touched."""

Distrust = Callable[[float], None]
"""Has everything that was stored before a moment count from there."""


class Feed:
    """Follows one server for the tables of one database. `alive` says that what it has said so far is all there is.

    `identity` is what tells its server from others, once it is alive.
    """

    def __init__(
        self,
        openers: tuple[MysqlOpener, MysqlOpener],
        address: HostAddress,
        definitions: Mapping[str, Definition],
        schema: str,
        *,
        forget: Forget,
        visible: Callable[[Iterable[str]], None],
        distrust: Distrust,
        changed: Callable[[], None],
        clock: Callable[[], float],
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
        self._address = address
        self._definitions = definitions
        self._schema = schema
        self._forget = forget
        self._visible = visible
        self._distrust = distrust
        self._changed = changed
        self._clock = clock
        self._stream: BinlogStream | None = None
        self._failure: DatabaseError | None = None
        self._ended = asyncio.Event()  # the stream has; `_failure` says why
        self._events = asyncio.Event()
        self._altered = asyncio.Event()  # by DDL that has not been read yet
        self._task: asyncio.Task[None] | None = None
        self._pending: list[Pending] = []
        self._place = Place()
        self._numbers: dict[str, int] = {}  # MySQL: the last transaction of each server
        self._rows: Counter[tuple[str, str]] = Counter()
        self._dropped: set[str] = (
            set()
        )  # tables of which all was forgotten for the last time, or nearly so
        self._selection = Selection(self.readers)
        self._catalog_is_old = False

    @property
    def is_settled(self) -> bool:
        """Return whether all that was heard of is proven visible, and forgotten for the last time."""
        return not (self._pending or self._catalog_is_old or self._events.is_set())

    def start(self) -> None:
        """Begin to follow, and go on until `close`."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._end_stream()

    async def catch_up(self) -> None:
        """Wait until all that the server shows now has been heard of, and forgotten for the last time.

        Raises DatabaseError.
        """
        session = await open_session(self._opener, self._address)
        try:
            shown = await session.visible_place()
        finally:
            session.close()
        try:
            async with asyncio.timeout(CATCH_UP):
                # Asked for seldom: nobody sets an event for it
                while not (  # noqa: ASYNC110
                    self._has_heard(shown, session.is_mariadb) and self.is_settled
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

    def _has_heard(self, shown: Place, is_mariadb: bool) -> bool:
        if not self.alive:
            return False
        if is_mariadb:
            return order(shown) <= order(self._place)
        numbers = gtid_numbers(shown.gtid).items()
        return all(number <= self._numbers.get(server, 0) for server, number in numbers)

    async def _run(self) -> None:
        while True:
            pause = RETRY
            try:
                await self._follow()
            except CannotFollow as error:
                self._lose(str(error))
                pause = RETRY_UNFIT
            except DatabaseError as error:
                self._lose(str(error))
            except Exception:
                log.exception("changes of %s: a defect of mailmapd ended the feed", self.host)
                self._lose(DEFECT)
            await asyncio.sleep(pause)

    async def _follow(self) -> None:
        """Follow until that ends with an error."""
        session = await open_session(self._opener, self._address)
        try:
            await session.check_fitness()
            # Before the catalog is read: what alters a table meanwhile is heard of, too
            place = await session.visible_place()
            self.readers = await self._find_readers(session)
            self._begin()
            self._stream, self._place = await self._replica.open(
                self._wanted, self._hear, self._end, place
            )
            self._numbers = gtid_numbers(self._place.gtid) | self._numbers
            await self._same_server(session)
            self.last_heard = self._clock()
            self.alive, self.reason = True, ""
            self._changed()
            log.info(
                "changes of %s are followed: %d tables, %d not",
                self.host,
                len(self.readers.followed),
                len(self.readers.not_followed),
            )
            await self._work_until_lost(session)
        finally:
            session.close()
            self._end_stream()

    def _begin(self) -> None:
        self._selection = Selection(self.readers)
        self._pending.clear()
        self._dropped.clear()
        self._numbers = {}
        self._rows.clear()
        self._failure = None
        self._ended.clear()
        self._catalog_is_old = False
        self._altered.clear()
        self._events.clear()

    async def _find_readers(self, session: Session) -> Readers:
        await session.check_fitness()
        ask_all = partial(session.rows, seconds=CATALOG_ANSWER, most=MAX_CATALOG)
        catalog = await read_catalog(ask_all)
        return await asyncio.to_thread(find_readers, self._definitions, catalog, self._schema)

    async def _same_server(self, session: Session) -> None:
        """Raise CannotFollow when two connections to the address reach two servers: a balancer stands between."""
        other = await open_session(self._opener, self._address)
        try:
            self.identity = await session.identity()
            if self.identity != await other.identity():
                raise CannotFollow(
                    f"{self.host}: connections reach different servers; name each of them in hosts"
                )
        finally:
            other.close()

    async def _work_until_lost(self, session: Session) -> None:
        """Work until the feed has ended. Raises DatabaseError then, also in the middle of a question."""
        try:
            async with asyncio.timeout(None) as patience:
                beside = (
                    asyncio.create_task(self._watch(patience)),
                    asyncio.create_task(self._keep_catalog()),
                )
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
        if not self._pending:
            self._events.clear()
            await self._events.wait()
        for transaction in self._pending:
            if transaction.asking:
                transaction.asking, asking = [], transaction.asking
                await ask(session, asking, transaction.touched)
                self._forget(transaction.touched)
        if self._pending:
            count = await passed(session, self._pending)
            done, self._pending = self._pending[:count], self._pending[count:]
            for transaction in done:
                self._forget(transaction.touched)
                self._dropped |= self._whole(transaction.touched)
            self._tell_visible()
            if not count:
                await asyncio.sleep(_FENCE_PAUSE)

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
                    await wait_until_visible(session, self._place, _FENCE_PAUSE)
                    await self._read_again(session)
                finally:
                    session.close()
                self._catalog_is_old = self._altered.is_set()
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
        touched = Touched()
        for table in before.followed | self.readers.followed:
            if not before.same(self.readers, table):
                touched.add_table(table)
        self._forget(touched)
        self._changed()

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
        except Exception:
            log.exception("changes of %s: a defect of mailmapd ended the feed", self.host)
            self._end(DatabaseError(DEFECT))

    def _take(self, events: Iterable[Event]) -> None:
        """Forget at once what events touch, and remember it for the fence."""
        self.last_heard = self._clock()
        heard = Touched()
        for event in events:
            kind = _KINDS.get(type(event))
            if kind is not None:
                self.counts[kind] += len(event.changes) if isinstance(event, RowsChanged) else 1
            match event:
                case TransactionBegun(gtid, position):
                    self._numbers |= gtid_numbers(gtid)
                    self._place = Place(self._place.file, position, gtid)
                case LogRotated(file, position):
                    self._place = Place(file, position, self._place.gtid)
                case RowsChanged(schema, table, _, changes):
                    self.last_change = self.last_heard
                    self._count(schema, table, len(changes), heard)
                case _:
                    pass
            if self._selection.add(event, heard):
                self._catalog_is_old = True
                self._altered.set()
            position = getattr(event, "position", 0)
            if isinstance(event, Heartbeat):  # comes at the end of the log
                position = max(position, self._place.position)
            if position and not isinstance(event, LogRotated):
                self._place = Place(self._place.file, position, self._place.gtid)
            if isinstance(event, TransactionEnded | StatementLogged):
                self._rows.clear()
        asking = list(self._selection.asking)
        self._selection.asking.clear()
        if heard or asking:
            self._forget(heard)
            add_pending(self._pending, Pending(self._place, heard, asking))
            self._events.set()
        self._tell_visible()

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
            self._visible(self._dropped - later)
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
        if was_alive:
            self._distrust(self.last_heard)
        self._changed()
