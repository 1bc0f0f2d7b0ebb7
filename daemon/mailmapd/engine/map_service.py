"""The map service of one listener: queries in, answers out, each one counted.

It outlives a reload of the configuration: `serve` puts the new maps in the place of the old ones between two queries, and the meters go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from mailmapd.engine.map import Map
from mailmapd.engine.meters import LookupMeter
from mailmapd.engine.outcome import Source
from mailmapd.engine.reply_cache import ReplyCache, Use
from mailmapd.model import Answer, MapQuery, PermFail

log = logging.getLogger(__name__)

UNKNOWN_MAP = PermFail("mailmapd has no map of this name")


class MapService:
    """Answers map queries for one listener.

    `only_map` is the map of a listener whose protocol names none (tcp_table). Lookups that take longer than `slow` seconds are logged.
    """

    def __init__(self, listener: str, clock: Callable[[], float], *, only_map: str = "", slow: float = 1.0) -> None:
        self.listener = listener
        self.meters: dict[str, LookupMeter] = {"": LookupMeter(listener, "")}
        self.slow = slow
        self._clock = clock
        self._only_map = only_map
        self._served: dict[str, tuple[Map, LookupMeter]] = {}
        self._replies = ReplyCache()

    def serve(self, maps: Mapping[str, Map]) -> None:
        """Answer from these maps from now on."""
        if self._only_map:
            maps = {"": maps[self._only_map]}
        for one in maps.values():
            self.meters.setdefault(one.name, LookupMeter(self.listener, one.name))
        self._served = {name: (one, self.meters[one.name]) for name, one in maps.items()}
        self.forget()

    def forget(self) -> None:
        """Forget whole replies, because cached answers they are made of were dropped."""
        self._replies.forget()

    def recall(self, request: bytes, now: float) -> bytes | None:
        """Return the reply to these very bytes, if it is remembered and all it was made of is fresh; count it as a lookup."""
        found = self._replies.find(request, now)
        if found is None:
            return None
        found.use.meter.latencies[Source.CACHE].observe(self._clock() - now)
        return found.reply

    def answer_now(self, query: MapQuery, request: bytes | None, encode: Callable[[Answer], bytes]) -> bytes | None:
        """Return the encoded answer if memory holds it, or None.

        It is remembered for `request`, the bytes that held this query and nothing else.
        """
        start = self._clock()
        served = self._served.get(query[0])
        if served is None:
            self.meters[""].count(UNKNOWN_MAP, Source.CACHE, 0.0)
            return encode(UNKNOWN_MAP)
        one, meter = served
        told = one.tell(query[1], start)
        if told is None:
            return None
        reply = encode(told.answer)
        result = meter.count(told.answer, Source.CACHE, self._clock() - start)
        if request is not None and start < told.until:
            self._replies.remember(request, reply, told.until, Use(one, meter, result, told.parts))
        return reply

    async def answer(self, query: MapQuery) -> Answer:
        """Return the answer to a query that `answer_now` could not answer, asking the databases."""
        start = self._clock()
        served = self._served.get(query.map)
        if served is None:
            return UNKNOWN_MAP
        answer, source = await served[0].answer(query.key)
        seconds = self._clock() - start
        served[1].count(answer, source, seconds)
        if seconds >= self.slow:
            name = query.map or self._only_map
            log.warning("slow lookup: map %s took %.3f s over %s (%s)", name, seconds, self.listener, source.name.lower())
        return answer
