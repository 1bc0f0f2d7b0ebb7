"""The map service of one listener: queries in, answers out, each one counted.

It outlives a reload of the configuration: `serve` puts the new maps in the place of the old ones
between two queries, and the meters go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

from mailmapd.engine.answered import QUICK, Answered, Use, Uses
from mailmapd.engine.maps.map import Lookup, Map, Plain
from mailmapd.engine.meters import FOUND, LookupMeter
from mailmapd.engine.outcome import Source
from mailmapd.engine.unknown_names import UnknownNames
from mailmapd.errors import DEFECT
from mailmapd.model import Answer, Found, MapQuery, PermFail, TempFail

log = logging.getLogger(__name__)

DEFECTIVE = "listener %s: a lookup ended in a defect of mailmapd"
FAILED = TempFail(DEFECT)
UNKNOWN_MAP = PermFail("mailmapd has no map of this name")


_new = tuple.__new__  # Answered(…) and Found(…) without their Python-level __new__


class Served(NamedTuple):
    """A map with what its lookups through one listener count for."""

    asked: Map
    meter: LookupMeter
    uses: Uses
    tell_plainly: Callable[[bytes, float], Plain | None]
    plain_use: Use

    @classmethod
    def of(cls, asked: Map, meter: LookupMeter) -> Served:
        """Return the map so."""
        uses = Uses(asked, meter)
        return cls(
            asked, meter, uses, asked.tell_plainly, uses.of(FOUND, asked.tables[0].present_parts)
        )


class MapService:
    """Answers map queries for one listener.

    `only_map` is the map of a listener whose protocol names none (tcp_table). Lookups that take
    longer than `slow` seconds are logged.
    """

    def __init__(
        self, listener: str, clock: Callable[[], float], *, only_map: str = "", slow: float = 1.0
    ) -> None:
        self.listener = listener
        self.meters: dict[str, LookupMeter] = {"": LookupMeter(listener, "")}
        self.slow = slow
        self.clock = clock
        self.unknown_names = UnknownNames("map", listener, clock)
        self._only_map = only_map
        self._served: dict[bytes, Served] = {}

    @property
    def names(self) -> list[str]:
        """Return the maps that can be asked for."""
        return [served.asked.name for served in self._served.values()]

    def serve(self, maps: Mapping[str, Map]) -> None:
        """Answer from these maps from now on."""
        self.settle()
        if self._only_map:
            maps = {"": maps[self._only_map]}
        self._served = {
            name.encode(): Served.of(map_, self._meter(map_.name)) for name, map_ in maps.items()
        }

    def settle(self) -> None:
        """Count what has been added up; see `Use`."""
        for served in self._served.values():
            served.uses.settle()

    def answer(self, query: MapQuery) -> Answered | MapWaiting:
        """Return the answer if memory holds it, or else what goes on to the databases when it is told to."""
        try:
            start = self.clock()
            name, key = query
            served = self._served.get(name)
            if served is None:
                self.meters[""].count(UNKNOWN_MAP, Source.CACHE, 0.0)
                self.unknown_names.note(name.decode("ascii", "replace"), self.names)
                return Answered(UNKNOWN_MAP)
            _, _, _, tell_plainly, use = served
            plain = tell_plainly(key, start)
            if plain is None:
                return self._walk(served, key, start)
            value, until, sql_key = plain
            seconds = self.clock() - start
            if seconds <= QUICK:
                use.lookups += 1
                use.seconds += seconds
            else:
                use.count(seconds)
            return _new(Answered, (_new(Found, (value,)), until, use, (sql_key,)))
        except Exception:
            log.exception(DEFECTIVE, self.listener)
            return Answered(FAILED)

    def _walk(self, served: Served, key: bytes, start: float) -> Answered | MapWaiting:
        """Return what the whole search finds."""
        asked, meter, uses, _, _ = served
        memory = asked.tell(key, start)
        if isinstance(memory, Lookup):
            return MapWaiting(self, memory, asked.name, meter, start)
        answer, until, parts, keys = memory
        result = meter.count(answer, Source.CACHE, self.clock() - start)
        if start < until:
            return _new(Answered, (answer, until, uses.of(result, parts), keys))
        return Answered(answer)

    def _meter(self, name: str) -> LookupMeter:
        return self.meters.setdefault(name, LookupMeter(self.listener, name))


class MapWaiting:
    """A lookup that memory could not answer."""

    __slots__ = ("_done", "_lookup", "_meter", "_name", "_service", "_start")

    def __init__(
        self, service: MapService, lookup: Lookup, name: str, meter: LookupMeter, start: float
    ) -> None:
        self._service = service
        self._lookup = lookup
        self._name = name
        self._meter = meter
        self._start = start

    def go_on(self, done: Callable[[Answer], None]) -> Answer | None:
        """Ask the databases; return the answer if that can be said at once, or None: `done` gets it later.

        To be called once.
        """
        lookup = self._lookup
        # It will hold what leads back to us: a circle that only the garbage collector breaks
        del self._lookup
        try:
            self._done = done
            ended = lookup.go_on(self._hear)
            return None if ended is None else self._end(*ended)
        except Exception:
            log.exception(DEFECTIVE, self._service.listener)
            return FAILED

    def _hear(self, answer: Answer, source: Source) -> None:
        self._done(self._end(answer, source))

    def _end(self, answer: Answer, source: Source) -> Answer:
        """Count the answer, and log it if it was slow."""
        service = self._service
        try:
            seconds = service.clock() - self._start
            self._meter.count(answer, source, seconds)
            if seconds >= service.slow:
                log.warning(
                    "slow lookup: map %s took %.3f s over %s (%s)",
                    self._name,
                    seconds,
                    service.listener,
                    source.name.lower(),
                )
        except Exception:
            log.exception(DEFECTIVE, service.listener)
            return FAILED
        return answer
