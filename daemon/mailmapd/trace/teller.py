"""Telling the story of a lookup: the engine's own walk, with every query asked anew and every step written down.

The walk says which key it tries in which table, and which it passes over; what a database answers
goes back into it, as it does for a client. So a story cannot differ from what a client gets.
"""

from __future__ import annotations

from collections.abc import Callable

from mailmapd.cache.table_cache import ABSENCE, Payload
from mailmapd.engine.maps.map import Map, MapTable, Probe, WalkWatcher
from mailmapd.engine.outcome import Failure, Outcome, Source
from mailmapd.errors import DatabaseError, DataError
from mailmapd.model import Answer, Found, NotFound, ResultSet
from mailmapd.search import SearchKey
from mailmapd.trace.story import Event, HostRecorder, Step, Story


async def trace(map_: Map, key: bytes, recorder: HostRecorder, clock: Callable[[], float]) -> Story:
    """Look a key up in a map whose tables remember nothing, and return the story.

    Database errors are part of the story.
    """
    teller = _Teller(map_, Story(map_.name, key), recorder, clock)
    walk = map_.walk(key, clock(), teller)
    try:
        probe = next(walk)
        while True:
            probe = walk.send(await teller.query(probe))
    except StopIteration as end:
        return teller.finish(end.value[0])


class _Teller(WalkWatcher):
    """Watches a walk, and asks the databases for it."""

    def __init__(
        self, map_: Map, story: Story, recorder: HostRecorder, clock: Callable[[], float]
    ) -> None:
        self._map = map_
        self._story = story
        self._recorder = recorder
        self._clock = clock
        self._place = map_.tables[0]  # where the walk stands, with which key
        self._search_key = SearchKey(story.key, b"")
        self._name = story.key
        self._own = False  # whether it has come to the map's own tables
        self._asked: dict[Probe, tuple[Step, Payload | None]] = {}
        self._error: DatabaseError | None = None

    # - what the walk says

    def asks(self, place: MapTable, search_key: SearchKey, name: bytes) -> None:
        """Remember where the walk stands; `query` comes next."""
        self._stand(place, search_key, name)

    def repeats(self, place: MapTable, search_key: SearchKey, name: bytes, probe: Probe) -> None:
        """Write down that the query has been sent already, for an earlier key."""
        self._stand(place, search_key, name)
        before, payload = self._asked[probe]
        shown = before.key.decode("utf-8", "backslashreplace")
        value = None if payload is None else place.definition.value(name, payload)
        self._note(Event.REMEMBERED, value=value, reason=f"the same query as for {shown}")

    def passes(self, place: MapTable, search_key: SearchKey, name: bytes | None) -> None:
        """Write down why a key is not asked."""
        self._stand(place, search_key, name or b"")
        self._note(Event.NOT_ASKED, reason=_why_not_asked(name))

    # - what the databases say

    async def query(self, probe: Probe) -> Outcome:
        """Send the query that the walk waits for, write it down, and return what the walk goes on with."""
        definition, database = probe.table.definition, probe.table.database
        self._recorder.host = ""
        started = self._clock()
        sql = ""
        try:
            statement = definition.statement(probe.sql_key)
            sql = database.describe(statement)
            rows = await database.fetch(statement)
            payload = definition.payload(rows)
            value = None if payload is None else self._place.definition.value(self._name, payload)
        except DatabaseError as error:
            self._error = error
            seconds = self._clock() - started
            self._note(Event.FAILED, probe, sql=sql, seconds=seconds, reason=str(error))
            return Outcome(Failure(str(error)), Source.DATABASE)
        seconds = self._clock() - started
        event = Event.ROWS if value is not None else Event.NO_VALUE
        if payload is None:
            event = Event.NO_ROW
        step = self._note(event, probe, sql=sql, seconds=seconds, rows=rows, value=value)
        self._asked[probe] = step, payload
        return Outcome(ABSENCE if payload is None else payload, Source.DATABASE)

    # - the end

    def finish(self, answer: Answer) -> Story:
        """Write down the answer, and why it is what it is."""
        story = self._story
        story.answer = answer
        match answer:
            case Found(final):
                story.secret = story.steps[-1].secret
                story.why = _why_found(story.steps[-1], final)
            case NotFound():
                story.why = self._why_not_found()
            case _ if isinstance(self._error, DataError):
                story.why = "a data error concerns this key only"
            case _:
                story.why = "nobody could tell, which is never “not found”"
        return story

    def _why_not_found(self) -> str:
        hosted, steps = self._map.hosted, self._story.steps
        if hosted is None or self._own or not steps or steps[-1].event is Event.ROWS:
            return "no table has any of the keys"
        return f"{hosted.name} does not list the domain, so no table is asked for its addresses"

    def _stand(self, place: MapTable, search_key: SearchKey, name: bytes) -> None:
        self._place, self._search_key, self._name = place, search_key, name
        self._own = self._own or place in self._map.tables

    def _note(
        self,
        event: Event,
        probe: Probe | None = None,
        *,
        sql: str = "",
        seconds: float = 0.0,
        rows: ResultSet | None = None,
        value: bytes | None = None,
        reason: str = "",
    ) -> Step:
        table = self._place.table
        step = Step(
            key=self._search_key.key,
            extension=self._search_key.extension,
            table=table.name,
            event=event,
            sql=sql,
            host=self._recorder.host if sql else "",
            seconds=seconds,
            rows=rows,
            value=value or b"",
            reason=reason,
            sql_key=None if probe is None else probe.sql_key,
            secret=table.secret,
        )
        self._story.steps.append(step)
        return step


def _why_found(step: Step, final: bytes) -> str:
    extension = step.extension.decode("utf-8", "backslashreplace")
    if final != step.value:
        if extension:
            return f"“{extension}” goes on to the result (propagate_unmatched_extensions)"
        return "“@domain” keeps the local part"
    return f"found without “{extension}”" if extension else ""


def _why_not_asked(name: bytes | None) -> str:
    """Say which rule of mysql_table(5) keeps a key from being asked."""
    if name is None:
        return "the key is not valid UTF-8"
    if b"@" not in name:
        return "the query needs a domain (%d), and the key has none"
    if name.startswith(b"@"):
        return "the query needs a local part (%u), and the key has none"
    return "the domain is not on the table's list of domains, or has too few labels"
