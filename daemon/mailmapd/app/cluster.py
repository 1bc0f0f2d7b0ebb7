"""The fleet, as a part of the process: joined once lookups are served, joined anew with each configuration."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from mailmapd.cluster.settings import ClusterSettings
from mailmapd.databases.settings import MysqlSettings
from mailmapd.engine.flush import FlushRequest, UnknownName
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.orders import FlushOrder, FlushReport, NoFleet, OrderError, decode_flush
from mailmapd.errors import ClusterError
from mailmapd.model.legible import legible
from mailmapd.plan.assembly import Assembled
from mailmapd.state.table_digest import shared_digests
from mailmapd.stats.snapshot import (
    SECOND_ANSWERS,
    SECOND_SHARED,
    ClusterState,
    MemberState,
    SecondLevelState,
)

if TYPE_CHECKING:
    from mailmapd.changes.following import Following
    from mailmapd.changes.touched import Touched
    from mailmapd.cluster.bus import Bus
    from mailmapd.cluster.members import Member
    from mailmapd.cluster.reader import Position
    from mailmapd.cluster.standing import Standing

log = logging.getLogger(__name__)

FlushHere = Callable[[FlushRequest, Callable[[Invalidation], None]], Awaitable[dict[str, int]]]


class Cluster:
    """This daemon's part in the fleet. `flush_here` forgets on this host alone; `following` is what it follows now."""

    def __init__(self, clock: Callable[[], float], flush_here: FlushHere) -> None:
        self.following: Callable[[], Following | None] = lambda: None
        self._clock = clock
        self._flush_here = flush_here
        self._bus: Bus | None = None
        self._settings: ClusterSettings | None = None
        self._hindrance = ""
        self._loaded = False
        self._totals = {"sent": 0, "received": 0, "foreign": 0, "unknown": 0}
        self._gaps = 0
        self._second_totals: Counter[str] = Counter()
        self._doubted = False  # a flush was not told to the second level
        self._lock = asyncio.Lock()

    def touched(self, touched: Touched) -> None:
        """Tell the others what a feed of this host has heard of."""
        if self._bus is not None:
            self._bus.touched(touched)

    def changed(self) -> None:
        """Tell the others that this host follows other changes now."""
        if self._bus is not None:
            self._bus.beat()

    async def begin(self, assembled: Assembled, saved: Any = None) -> None:
        """Join with an engine, and leave with the one before; go on from what was `saved` by an earlier process."""
        async with self._lock:
            before = self._settings
            place = await self._end()
            settings = self._settings = assembled.plan.cluster
            self._hindrance = ""
            if settings is None:
                return
            try:
                # In a thread, because it takes a while in which lookups are answered.
                await asyncio.to_thread(importlib.import_module, "mailmapd.cluster.bus")
            except ImportError as error:
                self._hindrance = (
                    f"cluster: the Python package {error.name} is missing: install mailmapd with its "
                    "extra [cluster], see docs/fleet.md"
                )
                log.error("%s", self._hindrance)  # noqa: TRY400
                return
            from mailmapd.cluster.bus import Bus
            from mailmapd.cluster.part import Part

            databases = {
                name: (settings, assembled.plan.changes[name])
                for name, settings in assembled.plan.databases.items()
                if isinstance(settings, MysqlSettings)
            }
            part = Part(
                assembled.engine,
                databases,
                shared_digests(assembled.plan),
                self.following,
                self._flush_for_others,
            )
            second = None
            if settings.second_level:
                from mailmapd.cluster.second_level import SecondLevel

                second = SecondLevel(settings, self._clock)
                if self._doubted:
                    second.doubt()
                    self._doubted = False
            self._bus = Bus(settings, part, self._clock, second)
            self._bus.start((place if settings == before else None) or _decoded(saved))
            if self._loaded:
                self._bus.beliefs.loaded()

    async def keep(self) -> dict[str, Any] | None:
        """Return what a later process goes on from, with the names of the tables that this is about, if anything."""
        standing = None if self._bus is None else await self._bus.standing()
        return None if standing is None else standing[0].encode() | {"tables": standing[1]}

    def believe(self) -> None:
        """Believe what was loaded as soon as that is proven: all of it is there."""
        self._loaded = True
        if self._bus is not None:
            self._bus.beliefs.loaded()

    async def close(self) -> None:
        """Leave, and say so."""
        async with self._lock:
            await self._end(left=True)

    async def flush(self, order: FlushOrder) -> FlushReport:
        """Forget on this host, then on all others; say who has not confirmed it. Raises UnknownName, NoFleet."""
        if order.wait is not None and self._settings is None:
            raise NoFleet("there is no [cluster] whose hosts could be waited for")
        bus = self._bus
        if bus is None:
            dropped = await self._flush_here(order.request, _unheard)
            if self._settings is None:
                return FlushReport(dropped)
            self._doubted = True
            return FlushReport(dropped, failure=self._hindrance or "cluster: not joined yet")
        dropped = {}
        try:
            with contextlib.nullcontext() if bus.second is None else bus.second.flushing():
                applied: list[Invalidation] = []
                dropped = await self._flush_here(order.request, applied.append)
                history = bus.history  # what is told elsewhere is an error
                identity = await bus.flush(order.members, applied)
        except ClusterError as error:
            return FlushReport(dropped, failure=f"the other hosts were not told: {error}")
        try:
            late = []
            if order.wait is not None:
                late = await bus.reports.unconfirmed(identity, order.wait, history)
        except ClusterError as error:
            failure = f"the other hosts were told, but who has done it is not known: {error}"
            return FlushReport(dropped, failure=failure)
        return FlushReport(dropped, unconfirmed=late)

    async def members(self) -> dict[str, MemberState]:
        """Return every host of the fleet. Raises NoFleet, ClusterError."""
        bus = self._bus
        if bus is None:
            raise NoFleet(self._hindrance or "there is no [cluster]")
        last = bus.last_flush
        members = await bus.reports.members()
        return {name: _member_state(bus, name, member, last) for name, member in members.items()}

    def problems(self) -> list[str]:
        """Return what keeps this host from hearing the others."""
        if self._hindrance:
            return [self._hindrance]
        if self._bus is None or self._settings is None:
            return []
        found = [f"cluster: {self._bus.reason}"] if self._bus.reason else []
        if self._bus.mute:
            found.append(f"cluster: the other hosts cannot be told anything: {self._bus.mute}")
        second = self._bus.second
        if second is not None and second.exchange.reason and not self._bus.reason:
            found.append(f"cluster: second level: {second.exchange.reason}")
        if self._bus.reports.twin:
            found.append(f"cluster: another daemon calls itself {self._settings.host}, too")
        return found

    def state(self, settings: ClusterSettings | None) -> ClusterState | None:
        """Return how this host hears the others, or None without settings of a fleet."""
        bus = self._bus
        if settings is None:
            return None
        counts = dict(self._totals)
        state: ClusterState = {
            "host": settings.host,
            "up": False,
            "reason": self._hindrance or "not joined yet",
            "mute": "",
            "lag": 0.0,
            "gaps": self._gaps,
            "messages": counts,
            "followers": [],
            "watched": {},
            "second_level": self._second_state(bus) if settings.second_level else None,
        }
        if bus is not None:
            state |= {
                "up": not bus.reason,
                "reason": legible(bus.reason),
                "mute": legible(bus.mute),
                "lag": bus.lag,
                "gaps": self._gaps + bus.gaps,
                "messages": {name: counts[name] + _count(bus, name) for name in counts},
                "followers": [legible(name) for name in bus.followers],
                "watched": bus.watched(),
            }
        return state

    def _second_state(self, bus: Bus | None) -> SecondLevelState:
        second = None if bus is None else bus.second
        counts, reason = self._second_totals, "not joined yet"
        if bus is not None and second is not None:
            counts = counts + second.counts()
            reason = bus.reason or second.exchange.reason
        return {
            "up": not reason,
            "reason": legible(reason),
            "used": 0 if second is None else second.exchange.used,
            "answers": {name: counts[name] for name in SECOND_ANSWERS},
            "shared": {name: counts[name] for name in SECOND_SHARED},
            "doubts": counts["doubts"],
        }

    async def _flush_for_others(self, members: Mapping[str, Any]) -> None:
        """Carry out what another host says. What is not known here touches nothing here."""
        try:
            await self._flush_here(decode_flush(dict(members)), _unheard)
        except UnknownName as error:
            log.debug("cluster: a flush means nothing here: %s", error)
        except OrderError as error:
            from mailmapd.cluster.message import NotUnderstood

            raise NotUnderstood(str(error)) from None

    async def _end(self, *, left: bool = False) -> Standing | Position | None:
        """Leave; return where to go on, and what memory is good for from there on."""
        bus = self._bus
        if bus is None:
            return None
        standing = None if left else await bus.standing()
        self._bus = None  # not before: as long as it vouches it must be told what changes
        await bus.close(left=left)
        for name in self._totals:
            self._totals[name] += _count(bus, name)
        self._gaps += bus.gaps
        if bus.second is not None:
            self._second_totals += bus.second.counts()
            self._doubted |= bus.second.exchange.untold > 0
        if standing is not None:
            return standing[0]
        return bus.position if bus.position.history else None


def _member_state(bus: Bus, name: str, member: Member, last: str) -> MemberState:
    """Return how a host of the fleet is, and whether it has carried out the last flush, if there was one."""
    roll = bus.reports.roll
    return {
        "version": member.version,
        "at": member.at,
        "position": member.last_id,
        "lag": member.lag,
        "ratio": member.ratio,
        "config": member.config,
        "follows": list(member.follows),
        "watched": member.watched,
        "left": member.left,
        "same_key": roll.has_our_key(name, member),
        "confirmed": roll.has_done(name, member, last, bus.history) if last else None,
    }


def _unheard(_: Invalidation) -> None:
    """Hear of an invalidation that nobody else has to hear of."""


def _decoded(saved: Any) -> Standing | None:
    """Return the place in the stream that a file names, if there is one that is understood."""
    if saved is None:
        return None
    from mailmapd.cluster.standing import Standing

    try:
        return Standing.decode(saved)
    except ValueError as error:
        log.warning("cluster: %s", error)
        return None


def _count(bus: Bus, name: str) -> int:
    return bus.sent if name == "sent" else bus.counts[name]
