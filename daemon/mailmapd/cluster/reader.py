"""The reader: every message of the stream, once and in order, and the proof that none was missed.

Messages are handed on as they come. Now and then one transaction reads what is left and looks at the stream: when it
has had exactly as many messages as were read, the last of them is the last that was read, and the server's history is
still the same, nothing was missed until the transaction began. Anything else is a gap: a stream that was trimmed too
soon, deleted, flushed, loaded from an old copy, or that goes on at another server.

    moment(id)   a moment before which the message cannot have been added: the last at which all that was
                 there had been read without it

Whatever goes wrong with the server ends a try; the next one goes on from the same place, and asks for fewer messages at
a time, down to one: a stranger's may be so long that not many of them come before the deadline.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from mailmapd.cluster.server import BATCH, Condition, Entry, Server
from mailmapd.errors import ClusterError
from mailmapd.tasks import end_tasks

log = logging.getLogger(__name__)

CHECK = 0.5  # seconds between two proofs
COMPARE = 15.0  # seconds between two looks whether new connections reach the same server
WAIT = 0.5  # seconds for which a message is waited for
RETRY = 0.5  # seconds until a server that did not answer is asked again
REST = 0.002  # seconds between two reads, in which messages gather: a read costs a quarter of a millisecond
_PORTION = 16 * 1024  # bytes of messages that are carried out in a row
_REMEMBERED = 100.0  # seconds for which moments are known
_GRAIN = 0.05  # seconds that they are apart


def order(identity: str) -> tuple[int, int]:
    """Return what puts ids in order."""
    first, _, second = identity.partition("-")
    return int(first), int(second)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the stream: the last id read, the number of messages ever until there, and whose history it is.

    Without a history nothing was read yet.
    """

    last_id: str = "0-0"
    added: int = 0
    history: str = ""


def _portions(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Yield messages in order, some short ones at a time, and a long one alone."""
    if sum(map(_size, entries)) <= _PORTION:
        if entries:
            yield entries
        return
    portion: list[Entry] = []
    size = 0
    for entry in entries:
        if portion and size + _size(entry) > _PORTION:
            yield portion
            portion, size = [], 0
        portion.append(entry)
        size += _size(entry)
    yield portion


def _size(entry: Entry) -> int:
    return sum(map(len, entry[1].values()))


class Reader:
    """Reads from `position` on until `close`.

    `heard` gets messages in order. `proven` is told that nothing was missed until a moment, `missed` why something may
    have been, `changed` that the server answers (an empty text), or why it does not.
    """

    def __init__(
        self,
        server: Server,
        position: Position,
        clock: Callable[[], float],
        *,
        heard: Callable[[list[Entry]], None],
        proven: Callable[[float], None],
        missed: Callable[[str], None],
        changed: Callable[[str], None],
    ) -> None:
        self.position = self.before = position  # `before` the messages that were handed on last
        self.moves = 0  # from one history to another, so from one server to another
        self._server = server
        self._clock = clock
        self._heard = heard
        self._proven = proven
        self._missed = missed
        self._changed = changed
        # Until when everything has been read that was there; what was said while this host was away is older.
        self._caught_up = float("-inf")
        self._checked = float("-inf")
        self._batch = BATCH
        self._ids: list[tuple[int, int]] = []
        self._moments: list[float] = []

    def moment(self, identity: str) -> float | None:
        """Return a moment before which this message was not there yet, or None when that is not known any more."""
        place = bisect_right(self._ids, order(identity))
        return self._moments[place - 1] if place else None

    async def run(self) -> None:
        """Read, and go on reading, whatever happens to the server."""
        comparing = asyncio.get_running_loop().create_task(self._compare())
        try:
            await self._read_on()
        finally:
            await end_tasks([comparing])

    async def _read_on(self) -> None:
        while True:
            try:
                await self._read()
            except ClusterError as error:
                self._changed(str(error))
                self._batch = max(self._batch // 10, 1)
            except Exception:
                log.exception("cluster: a defect of mailmapd ended the reading of the stream")
                self._changed("a defect of mailmapd; its log says more")
            await asyncio.sleep(RETRY)

    async def _compare(self) -> None:
        """See now and then that a name, or what stands before the server, still leads to the one that is read."""
        while True:
            await asyncio.sleep(COMPARE)
            try:
                if self.position.history and (
                    other := await self._server.compare(self.position.history)
                ):
                    log.warning("cluster: %s", other)
            except ClusterError as error:
                log.debug("cluster: not compared: %s", error)
            except Exception:
                log.exception("cluster: a defect of mailmapd; servers are not compared")

    async def _read(self) -> None:
        await self._check()
        self._changed("")
        while True:
            now = self._clock()
            if now - self._checked >= CHECK:
                await self._check()
            else:
                entries = await self._server.read(self.position.last_id, WAIT, self._batch)
                # Lookups have their turn between: to read messages takes as long as to carry them out
                await asyncio.sleep(0)
                await self._take(entries, now)
            await asyncio.sleep(REST)

    async def _check(self) -> None:
        """Read what is left, and prove that nothing was missed until now."""
        while True:
            began = self._clock()
            entries, condition = await self._server.check(self.position.last_id, self._batch)
            if not self.position.history:
                self._begin(condition, began)
                return
            last = len(entries) < self._batch
            await self._take(entries, began)
            if last:
                break
            await asyncio.sleep(0)
        self._checked = began
        if fault := self._fault(condition):
            self._ids.clear()
            self._moments.clear()
            self.moves += condition.history != self.position.history
            self._missed(fault)
            if order(condition.last_id) < order(self.position.last_id):
                self.position = Position(history=condition.history)  # all of it, from the start
                self._caught_up = float("-inf")
                return
        self.position = Position(condition.last_id, condition.added, condition.history)
        self._proven(began)

    def _begin(self, condition: Condition, now: float) -> None:
        """Begin at the end of the stream: nothing that was said before is about what this host knows."""
        self.position = Position(condition.last_id, condition.added, condition.history)
        self._caught_up = self._checked = now
        self._proven(now)

    def _fault(self, condition: Condition) -> str:
        position = self.position
        if condition.history != position.history:
            return "another server, or another history of it, carries the stream now"
        if order(condition.last_id) < order(position.last_id):
            return "the stream is behind what was read: it is another one, or an old copy"
        if condition.last_id != position.last_id or condition.added != position.added:
            return "messages were removed before they were read"
        return ""

    async def _take(self, entries: list[Entry], began: float) -> None:
        """Take what a read has brought that began at a moment, in portions between which lookups have their turn."""
        for portion in _portions(entries):
            if portion is not entries:
                await asyncio.sleep(0)
            self.before = self.position
            self.position = replace(
                self.position, last_id=portion[-1][0], added=self.position.added + len(portion)
            )
            self._remember(entry[0] for entry in portion)
            self._heard(portion)
        if len(entries) < self._batch:
            self._caught_up = began
        self._batch = min(self._batch * 2, BATCH)

    def _remember(self, ids: Iterable[str]) -> None:
        """Remember the moment of the first of these messages; it is good for all up to the next that is remembered."""
        now = self._caught_up
        if self._moments and now - self._moments[-1] < _GRAIN:
            return
        self._ids.append(order(next(iter(ids))))
        self._moments.append(now)
        if self._moments[0] < now - _REMEMBERED:
            del self._ids[: len(self._ids) // 2], self._moments[: len(self._moments) // 2]
