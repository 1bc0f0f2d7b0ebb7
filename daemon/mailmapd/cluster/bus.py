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
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mailmapd.changes.forgetting import Forgetting
from mailmapd.changes.touched import Touched
from mailmapd.cluster.beliefs import Beliefs
from mailmapd.cluster.coverage import Coverage, Vouched
from mailmapd.cluster.members import decode_member
from mailmapd.cluster.message import Codec, Message, NotUnderstood, Stranger
from mailmapd.cluster.own_word import OwnWord
from mailmapd.cluster.part import Part
from mailmapd.cluster.publisher import Publisher
from mailmapd.cluster.reader import Position, Reader, order
from mailmapd.cluster.reports import Reports, Standpoint
from mailmapd.cluster.server import Entry, Server
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.cluster.standing import Standing
from mailmapd.cluster.watching import Watching
from mailmapd.engine.invalidation import Invalidation
from mailmapd.errors import ClusterError
from mailmapd.tasks import end_tasks

if TYPE_CHECKING:
    from mailmapd.cluster.second_level import SecondLevel

log = logging.getLogger(__name__)

TICK = 0.5  # seconds between two looks at what still holds
DOUBTS_APART, MOST_APART = 1.0, 60.0
"""Seconds between two times that everything is doubted because messages are not understood, of which there may be many:
each time has every key fetched anew that is asked for. Twice as many each time, up to the second number."""
MUTE = 1.0  # seconds for which the server takes nothing until that is a fault: a failover takes as long
_DOUBT = object()  # stands for it among what is to be carried out
MOST_FLUSHES = 100  # that are carried out at a time; with more, everything is forgotten


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
        self.mute = ""  # why this host cannot tell the others anything, though it hears them
        self.counts: Counter[str] = Counter()
        self.gaps = 0
        self._last_flush = ("", "")  # of any host, and whose history it is of
        self.run = secrets.token_hex(8)
        self._settings = settings
        self._part = part
        self._clock = clock
        self._server = Server(settings)
        self._codec = Codec(settings.key)
        self._word = OwnWord(part, lambda: self._reader.moves, clock)
        self.second = second
        tables = {name: part.engine.tables[name] for name in part.digests}
        self._forgetting = Forgetting(part.engine, tables)
        self._coverage = Coverage(part.names, self._word.unlogged)
        self._watching = Watching(part.engine, part.databases, part.digests, self._coverage, clock)
        self._publisher = Publisher(
            self._server,
            self._codec,
            (settings.host, self.run),
            place=lambda: self._reader.position,
            hears=self._word.hears,
            clock=clock,
            commands=lambda touched: [] if second is None else second.commands(touched),
            second="" if second is None else part.config,
        )
        self._reader = Reader(
            self._server,
            Position(),
            clock,
            heard=self._heard,
            proven=self._prove,
            missed=self._missed,
            changed=self._changed,
        )
        self.reports = Reports(
            self._server,
            self._codec,
            (settings.host, self.run),
            part,
            self._word,
            standpoint=self._standpoint,
            clock=clock,
        )
        self.beliefs = Beliefs(
            part,
            self._word,
            coverage=self._coverage,
            watching=self._watching,
            publisher=self._publisher,
            here=lambda: None if self.reason else self._reader.position,
            history=lambda: self._reader.position.history,
            clock=clock,
        )
        self._applied = Position()
        # What was read and is not carried out yet: flushes, a doubt; with the place before each
        self._open: dict[object, Position] = {}
        self._too_many = 0  # flushes that came while MOST_FLUSHES were open
        self._flushing_all: asyncio.Task[None] | None = None
        self._proven = clock()
        self._not_understood = ""  # why, of the last such message
        self._doubted = float("-inf")  # when everything was, last
        self._apart = DOUBTS_APART
        self._heard_out = clock()  # when the server has last taken what this host tells
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def lag(self) -> float:
        """Return how many seconds ago it was last proven that nothing was missed."""
        return max(self._clock() - self._proven, 0.0)

    @property
    def followers(self) -> list[str]:
        """Return the hosts whose word holds now."""
        return sorted(self._coverage.followers(self._clock()))

    @property
    def history(self) -> str:
        """Return whose history the server has that is read."""
        return self._reader.position.history

    @property
    def last_flush(self) -> str:
        """Return the id of the last flush of any host, or nothing when the server that is read has none."""
        identity, history = self._last_flush
        return identity if history == self.history else ""

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
            self.beliefs.doubt(place.asked)
        loop = asyncio.get_running_loop()
        self._watching.start()
        if self.second is not None:
            self.second.start(self._part.engine, self._part.digests, self.beliefs)
        self._tasks = [loop.create_task(self._run(position)), loop.create_task(self._tick())]

    async def close(self, *, left: bool = False) -> None:
        """End; with `left` nobody is to wait for this host until it comes back."""
        self._publisher.vouch_no_more()  # at once: it is told of no change from now on
        await end_tasks(self._tasks)
        if self.second is not None:
            await self.second.close()
        await self._publisher.close()
        await self._watching.close()
        flushes = [flush for flush in self._open if isinstance(flush, asyncio.Task)]
        await asyncio.gather(*flushes, return_exceptions=True)
        await self._forgetting.close()
        if left and not self.reason:
            try:
                await self.reports.leave()
            except ClusterError as error:
                log.info("cluster: nobody could be told that this host ends: %s", error)
        await self._server.close()

    async def standing(self) -> tuple[Standing, list[str]] | None:
        """Return what memory is good for from now on, and of which tables, or None while nothing is proven.

        Whatever is in memory when this returns is as it was there, or newer.
        """
        if self.reason or _DOUBT in self._open or not self._applied.history:
            return None
        sources, asked = self._watching.words()
        for (
            name,
            hears,
        ) in self._word.hears().items():  # others may begin with what a follower knows
            source = (self._settings.host, self.run, name)
            sources.append(Vouched(source, hears.epoch, hears.servers, hears.tables))
            asked |= dict.fromkeys(hears.tables, hears.servers)
        standing = Standing(self._settings.stream, self._applied, tuple(sources), asked)
        await self._forgetting.catch_up()
        return standing, [name for name, digest in self._part.digests.items() if digest in asked]

    def touched(self, touched: Touched) -> None:
        """Tell the others what this host has just forgotten, because its feed heard of it."""
        shared = self._part.shared(touched)
        if shared:
            self._publisher.touched(shared)

    def beat(self) -> None:
        """Tell the others now what this host hears."""
        self._coverage.leave_out()
        self._publisher.beat()

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
        return await self._publisher.flush(request, self._part.shared(touched))

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
        reporting = asyncio.create_task(self.reports.run())
        try:
            await self._reader.run()
        finally:
            await end_tasks([reporting])

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            try:
                self._watching.look()
                self._doubt_what_is_known()
                self._say_if_mute()
            except Exception:
                log.exception("cluster: a defect of mailmapd; nothing is watched because of others")
                self._watching.lose()

    def _say_if_mute(self) -> None:
        """Say once why the server takes nothing from this host: of its account, or of anybody."""
        mute = "" if self.reason else self._publisher.failure or self.reports.failure
        now = self._clock()
        self._heard_out = now if not mute else self._heard_out
        if now - self._heard_out < MUTE:
            mute = ""
        if mute and not self.mute:
            log.warning("cluster: the other hosts cannot be told anything: %s", mute)
        elif self.mute and not mute and not self.reason:
            log.info("cluster: the other hosts are told again")
        self.mute = mute

    def _heard(self, entries: list[Entry]) -> None:
        """Carry messages out. Nothing that they say may end the reading of those behind them."""
        before = self._reader.before
        for identity, fields in entries:
            try:
                self._hear(identity, fields, before)
            except Stranger:
                self.counts["foreign"] += 1
            except NotUnderstood as error:
                self._doubt(error, before)
            except Exception:
                log.exception("cluster: a message ended in a defect of mailmapd")
                self._doubt(NotUnderstood("a defect of mailmapd"), before)
            before = replace(before, last_id=identity, added=before.added + 1)
        self._watching.look()
        self._note_applied()

    def _hear(self, identity: str, fields: Mapping[bytes, bytes], before: Position) -> None:
        """Carry a message out. Raises Stranger, NotUnderstood."""
        message = self._codec.decode(fields)
        self.counts["received"] += 1
        if message.flush is not None:
            self._last_flush = (identity, self._reader.position.history)
        if message.run != self.run:
            self._take(message, before)

    def _take(self, message: Message, before: Position) -> None:
        if self.second is not None and not self._second_knows(message):
            self.second.doubt()
        if message.forget is not None:
            self._forgetting.forget(self._part.named(message.forget))
        if message.hears is not None:
            is_told_here = message.history == self._reader.position.history
            hears = message.hears if is_told_here else {}
            moment = self._reader.moment(message.seen)
            self._coverage.heard(
                message.host,
                message.run,
                hears,
                moment,
                self._clock(),
                tells_second=bool(message.second),
            )
            unlogged = self._part.named(Touched(whole=set(self._coverage.unlogged()))).whole
            for database in self._word.databases.values():
                database.suspend_for_others(unlogged)
        if message.flush is None:
            return
        if len(self._open) < MOST_FLUSHES:
            self._begin(self._flush(message.flush, before), before)
            return
        # Who looks for the entries of every one of these is never done; all of them are among everything
        self._too_many += 1
        self._part.engine.apply(Invalidation())
        if self._flushing_all is None or self._flushing_all.done():
            self._flushing_all = self._begin(self._flush_all(before), before)

    def _second_knows(self, message: Message) -> bool:
        """Return whether the second level was told what a message says, of all that it means here."""
        if message.flush is not None:
            return message.second == self._part.config
        return message.forget is None or bool(message.second)

    def _doubt(self, error: NotUnderstood, before: Position) -> None:
        """Take a message for all that it may have said: that anything is to be forgotten."""
        if self.second is not None:
            self.second.doubt()
        self.counts["unknown"] += 1
        self._not_understood = str(error)
        self._open.setdefault(_DOUBT, before)

    def _doubt_what_is_known(self) -> None:
        """Doubt everything because of messages that were not understood: at once, and more and more seldom."""
        now = self._clock()
        silence = now - self._doubted
        if _DOUBT not in self._open or silence < self._apart:
            return
        self._apart = DOUBTS_APART if silence > MOST_APART else min(self._apart * 2, MOST_APART)
        log.warning(
            "cluster: a message is not understood, %d in all: %s; everything is asked for anew",
            self.counts["unknown"],
            self._not_understood,
        )
        self._part.engine.apply(Invalidation(before=now))
        self._doubted = now
        self._close(_DOUBT)

    def _close(self, done: object) -> None:
        """Note that something has been carried out, and tell those who may wait for it."""
        self._open.pop(done, None)
        before = self._applied
        self._note_applied()
        if self._applied != before:
            self.reports.report()

    def _note_applied(self) -> None:
        """Note until where everything has been carried out: up to what was read, or to the first that is open."""
        first = min(self._open.values(), key=lambda place: order(place.last_id), default=None)
        self._applied = first or self._reader.position

    def _begin(self, flush: Coroutine[Any, Any, None], before: Position) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(flush)
        self._open[task] = before
        task.add_done_callback(self._close)
        return task

    async def _flush_all(self, before: Position) -> None:
        """Flush everything, so that it is written down as well, until no more has come meanwhile."""
        known = 0
        while known != self._too_many:
            known = self._too_many
            await self._flush({"all": True}, before)

    async def _flush(self, request: Mapping[str, Any], before: Position) -> None:
        try:
            await self._part.flush(request)
        except NotUnderstood as error:
            self._doubt(error, before)
        except Exception:
            log.exception("cluster: a flush of another host ended in a defect of mailmapd")
            self._doubt(NotUnderstood("a defect of mailmapd"), before)

    def _prove(self, moment: float) -> None:
        self._proven = max(self._proven, moment)
        self._coverage.prove()
        self._watching.look()
        self.beliefs.settle()
        self._note_applied()

    def _missed(self, reason: str) -> None:
        """Something may have been missed since the last proof: a change, or a flush of any table."""
        self.gaps += 1
        log.warning("cluster: %s; what is known counts from %.1f s ago", reason, self.lag)
        self._coverage.forget()
        self.beliefs.give_up()
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

    def _standpoint(self) -> Standpoint:
        watched = sum(len(tables) for tables in self.watched().values())
        return Standpoint(self._applied, self.lag, watched)
