"""The map service of one listener: queries in, encoded answers out, each one counted.

It outlives a reload of the configuration: `serve` puts the new maps in the place of the old ones
between two queries, and the meters go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from mailmapd.engine.maps.map import Lookup, Map
from mailmapd.engine.meters import LookupMeter
from mailmapd.engine.outcome import Source
from mailmapd.engine.reply_cache import CountRecalled, Recall, ReplyCache, Use
from mailmapd.errors import DEFECT
from mailmapd.model import Answer, MapQuery, PermFail, TempFail

log = logging.getLogger(__name__)

DEFECTIVE = "listener %s: a lookup ended in a defect of mailmapd"
FAILED = TempFail(DEFECT)
UNKNOWN_MAP = PermFail("mailmapd has no map of this name")

Encode = Callable[[Answer], bytes]
"""Makes an answer a reply of the listener's protocol."""


class MapService:
    """Answers map queries for one listener.

    `only_map` is the map of a listener whose protocol names none (tcp_table). Lookups that take
    longer than `slow` seconds are logged. `recall` returns the remembered reply to the very bytes
    of a request, and `count_recalled` counts its use; see `ReplyCache`.
    """

    def __init__(
        self, listener: str, clock: Callable[[], float], *, only_map: str = "", slow: float = 1.0
    ) -> None:
        self.listener = listener
        self.meters: dict[str, LookupMeter] = {"": LookupMeter(listener, "")}
        self.slow = slow
        self._clock = clock
        self._only_map = only_map
        self._served: dict[bytes, tuple[Map, LookupMeter]] = {}
        self._replies = ReplyCache()
        self.recall: Recall = self._replies.find
        self.count_recalled: CountRecalled = self._replies.count

    def serve(self, maps: Mapping[str, Map]) -> None:
        """Answer from these maps from now on."""
        if self._only_map:
            maps = {"": maps[self._only_map]}
        for one in maps.values():
            self.meters.setdefault(one.name, LookupMeter(self.listener, one.name))
        self._served = {name.encode(): (one, self.meters[one.name]) for name, one in maps.items()}
        self.forget()

    def forget(self) -> None:
        """Forget whole replies, because cached answers they are made of were dropped."""
        self._replies.forget()

    def answer(
        self, query: MapQuery, request: bytes | None, encode: Encode, told: Callable[[bytes], None]
    ) -> bytes | None:
        """Return the reply if it can be given now; when that is None, `told` gets it later.

        A reply from memory is remembered for `request`, the bytes that held this query and nothing
        else, if they are known.
        """
        try:
            return self._answer(query, request, encode, told)
        except Exception:
            log.exception(DEFECTIVE, self.listener)
            return encode(FAILED)

    def _answer(
        self, query: MapQuery, request: bytes | None, encode: Encode, told: Callable[[bytes], None]
    ) -> bytes | None:
        start = self._clock()
        name, key = query
        served = self._served.get(name)
        if served is None:
            self.meters[""].count(UNKNOWN_MAP, Source.CACHE, 0.0)
            return encode(UNKNOWN_MAP)
        one, meter = served
        memory = one.tell(key, start)
        if isinstance(memory, Lookup):
            return self._go_on(memory, served, start, encode, told)
        answer, until, parts = memory
        reply = encode(answer)
        result = meter.count(answer, Source.CACHE, self._clock() - start)
        if request is not None and start < until:
            self._replies.remember(request, reply, until, Use(one, meter, result, parts))
        return reply

    def _go_on(
        self,
        lookup: Lookup,
        served: tuple[Map, LookupMeter],
        start: float,
        encode: Encode,
        told: Callable[[bytes], None],
    ) -> bytes | None:
        """Have the databases asked; count the answer, and log it if it was slow."""
        one, meter = served

        def end(answer: Answer, source: Source) -> bytes:
            seconds = self._clock() - start
            meter.count(answer, source, seconds)
            if seconds >= self.slow:
                log.warning(
                    "slow lookup: map %s took %.3f s over %s (%s)",
                    one.name,
                    seconds,
                    self.listener,
                    source.name.lower(),
                )
            return encode(answer)

        def end_later(answer: Answer, source: Source) -> None:
            try:
                reply = end(answer, source)
            except Exception:
                log.exception(DEFECTIVE, self.listener)
                reply = encode(FAILED)
            told(reply)

        ended = lookup.go_on(end_later)
        return None if ended is None else end(*ended)
