"""Reports: what this host says of itself in its record, and what the others' records say of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from mailmapd import __version__
from mailmapd.cluster.members import Member, decode_member, decode_members
from mailmapd.cluster.message import Codec
from mailmapd.cluster.own_word import OwnWord
from mailmapd.cluster.part import Part
from mailmapd.cluster.reader import Position
from mailmapd.cluster.roll import Roll
from mailmapd.cluster.server import Server
from mailmapd.engine.engine import Engine
from mailmapd.errors import ClusterError

log = logging.getLogger(__name__)

REPORT = 1.0  # seconds between two reports of how this host is
_ROLL = 10  # reports between two looks at those of the others
_CONFIRM = 0.01  # seconds until it is looked who has confirmed; each time a half more, up to …
_LONGEST_CONFIRM = 0.2  # … these
_TWIN = 5.0  # seconds in which a record of another run was written by a daemon that is still there


class Standpoint(NamedTuple):
    """A host now: what it has carried out, the age of its last proof, and how many tables others vouch for."""

    applied: Position
    lag: float
    watched: int


class Reports:
    """Writes the record of one host, and reads those of all. `twin` says that another daemon writes this one, too."""

    def __init__(
        self,
        server: Server,
        codec: Codec,
        names: tuple[str, str],
        part: Part,
        word: OwnWord,
        *,
        standpoint: Callable[[], Standpoint],
        clock: Callable[[], float],
    ) -> None:
        self.twin = False
        self.failure = ""  # why the record cannot be written now
        self._server = server
        self._codec = codec
        self._host, self._run = names
        self._part = part
        self._word = word
        self._standpoint = standpoint
        self._clock = clock
        self.roll = Roll(self._host, codec, clock)
        self._written = 0
        self._due = asyncio.Event()

    def report(self) -> None:
        """Write the record now: others may wait for what it says."""
        self._due.set()

    async def run(self) -> None:
        """Write the record, again and again."""
        while True:
            try:
                if self._standpoint().applied.history:
                    await self._write()
                self.failure = ""
            except ClusterError as error:
                self.failure = str(error)
                log.debug("cluster: %s", error)
            except Exception:
                log.exception("cluster: a defect of mailmapd; this host's record is not written")
            try:
                async with asyncio.timeout(REPORT):
                    await self._due.wait()
            except TimeoutError:
                pass  # it is time
            self._due.clear()

    async def leave(self) -> None:
        """Have nobody wait for this host until it comes back. Raises ClusterError."""
        if self._standpoint().applied.history:
            await self._server.write_member(self._host, self._record(left=True).encode())

    async def members(self) -> dict[str, Member]:
        """Return every host, by name. Raises ClusterError."""
        written = self._written > 0
        found = await decode_members(await self._server.members())
        members, given_up = self.roll.take(found, written=written)
        if given_up:
            await self._server.remove_members(given_up)
        return members

    async def unconfirmed(self, identity: str, seconds: float, history: str = "") -> list[str]:
        """Wait until every host has carried out a message of the server with a history; return those that have not.

        Raises ClusterError.
        """
        deadline, pause = self._clock() + seconds, _CONFIRM
        while True:
            members = await self.members()
            late = [
                name
                for name, member in members.items()
                if name != self._host and not self.roll.has_done(name, member, identity, history)
            ]
            if not late or self._clock() >= deadline:
                return late
            await asyncio.sleep(min(pause, max(deadline - self._clock(), 0.0)))
            pause = min(pause * 1.5, _LONGEST_CONFIRM)

    async def _write(self) -> None:
        before = await self._server.write_member(self._host, self._record().encode())
        if not before and self._written:
            self.roll.lost()
        self._look_for_twin(decode_member(before))
        if self._written % _ROLL == 1:
            await self.members()

    def _look_for_twin(self, before: Member | None) -> None:
        """See whether another daemon writes this host's record, too."""
        other = before is not None and before.run != self._run and not before.left
        fresh = before is not None and abs(time.time() - before.at) < _TWIN
        twin = other and fresh and self._written > _TWIN / REPORT
        self._written += 1
        if twin and not self.twin:
            log.error("cluster: another daemon calls itself %s, too", self._host)
        self.twin = twin

    def _record(self, *, left: bool = False) -> Member:
        now = self._standpoint()
        return Member(
            run=self._run,
            version=__version__,
            at=time.time(),
            last_id=now.applied.last_id,
            added=now.applied.added,
            history=now.applied.history,
            lag=round(now.lag, 3),
            ratio=_ratio(self._part.engine),
            config=self._part.config,
            follows=tuple(self._word.hears()),
            watched=now.watched,
            left=left,
        ).signed(self._host, self._codec)


def _ratio(engine: Engine) -> float | None:
    """Return the part of questions to tables that memory has answered."""
    tables = engine.tables.values()
    hits = sum(table.hits + table.negative_hits for table in tables)
    asked = hits + sum(table.misses + table.coalesced for table in tables)
    return round(hits / asked, 4) if asked else None
