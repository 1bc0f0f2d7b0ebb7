"""Walking a map as the engine does, and writing down every step of it.

The engine's own walk must be quick and keeps no notes; this one asks the same tables in the same
order and stops where that one stops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum

from mailmapd.cache.table_cache import Payload
from mailmapd.engine.maps.map import Map, MapTable
from mailmapd.errors import DatabaseError, DataError
from mailmapd.model import NOT_FOUND, Answer, Found, ResultSet, TempFail
from mailmapd.search import SearchKey, propagate

HIDDEN = b"(hidden)"
"""Stands for a value of a secret table."""


class Event(Enum):
    """What happened with one key in one table."""

    NOT_ASKED = "not asked"
    REMEMBERED = "as above"
    NO_ROW = "no row"
    NO_VALUE = "no value"
    ROWS = "found"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """One key in one table.

    `reason` says why it was not asked, or what failed; `value` is what the table makes of its rows.

    `secret` says that the rows and the value are not to be shown to anybody who did not ask for them.

    `sql_key` is what a daemon's memory would know the answer under; None for a key that is not asked.
    """

    key: bytes
    extension: bytes
    table: str
    event: Event
    sql: str = ""
    host: str = ""
    seconds: float = 0.0
    rows: ResultSet | None = None
    value: bytes = b""
    reason: str = ""
    sql_key: bytes | None = None
    secret: bool = False


@dataclass(slots=True)
class Story:
    """A whole lookup: its steps in order, the answer, and why it is what it is.

    `secret` says that the answer came from a table that is marked so.
    """

    map: str
    key: bytes
    steps: list[Step] = field(default_factory=list)
    answer: Answer = NOT_FOUND
    why: str = ""
    secret: bool = False


@dataclass(slots=True)
class HostRecorder:
    """A database observer that remembers which host answered last."""

    host: str = ""

    # - the observer's interface
    def query_finished(self, database: str, host: str, outcome: str, seconds: float) -> None:  # noqa: ARG002
        """Remember the host."""
        self.host = host

    def host_state(self, database: str, host: str, up: bool) -> None:
        """A host going up or down is of no interest here."""


async def trace(one: Map, key: bytes, recorder: HostRecorder, clock: Callable[[], float]) -> Story:
    """Look a key up in a map and return the story. Database errors are part of the story."""
    story = Story(one.name, key)
    if one.hosted is not None and not await _is_hosted(one, key, story, recorder, clock):
        return story
    teller = _Teller(story, recorder, clock)
    for search_key in one.search.keys(key):
        for part in one.tables:
            if await teller.ask(one, part, search_key):
                return story
    story.why = "no table has any of the keys"
    return story


async def _is_hosted(
    one: Map, key: bytes, story: Story, recorder: HostRecorder, clock: Callable[[], float]
) -> bool:
    """Ask the map of hosted domains first, as the engine does; False ends the lookup."""
    _, at, domain = key.rpartition(b"@")
    if not at or not domain or one.hosted is None:
        return True
    hosted = await trace(one.hosted, domain, recorder, clock)
    story.steps += hosted.steps
    if hosted.answer is not NOT_FOUND:
        return True
    story.why = (
        f"{one.hosted.name} does not list the domain, so no table is asked for its addresses"
    )
    return False


@dataclass(slots=True)
class _Teller:
    story: Story
    recorder: HostRecorder
    clock: Callable[[], float]
    asked: dict[tuple[str, bytes], Step] = field(default_factory=dict)

    async def ask(self, one: Map, part: MapTable, search_key: SearchKey) -> bool:
        """Write down one step; return whether it ends the lookup."""
        name = part.fold(search_key.key)
        sql_key = None if name is None else part.definition.template.sql_key(name)
        if name is None or sql_key is None:
            self._note(search_key, part, Event.NOT_ASKED, reason=_why_not_asked(name))
            return False
        before = self.asked.get((part.table.name, sql_key))
        if before is not None:
            self._note(
                search_key,
                part,
                Event.REMEMBERED,
                reason=f"the same query as for {before.key.decode('utf-8', 'backslashreplace')}",
            )
            return False
        return await self._query(one, part, search_key, name, sql_key)

    async def _query(
        self, one: Map, part: MapTable, search_key: SearchKey, name: bytes, sql_key: bytes
    ) -> bool:
        statement = part.definition.statement(sql_key)
        database = part.table.database
        sql = database.describe(statement)
        self.recorder.host = ""
        started = self.clock()
        payload: Payload | None = None
        value: bytes | None = None
        try:
            rows = await database.fetch(statement)
            payload = part.definition.payload(rows)
            value = None if payload is None else part.definition.value(name, payload)
        except DatabaseError as error:
            self._note(
                search_key,
                part,
                Event.FAILED,
                sql=sql,
                seconds=self.clock() - started,
                reason=str(error),
                sql_key=sql_key,
            )
            self.story.answer = TempFail(str(error))
            self.story.why = (
                "a data error concerns this key only"
                if isinstance(error, DataError)
                else "nobody could tell, which is never “not found”"
            )
            return True
        event = Event.NO_ROW if payload is None else Event.NO_VALUE if value is None else Event.ROWS
        seconds = self.clock() - started
        step = self._note(
            search_key,
            part,
            event,
            sql=sql,
            seconds=seconds,
            rows=rows,
            value=value or b"",
            sql_key=sql_key,
        )
        self.asked[part.table.name, sql_key] = step
        if value is None:
            return False
        self.story.secret = part.table.secret
        self._finish(one, search_key, value)
        return True

    def _finish(self, one: Map, search_key: SearchKey, value: bytes) -> None:
        extension = search_key.extension.decode("utf-8", "backslashreplace")
        final = value
        if one.propagates is not None and (search_key.extension or value[:1] == b"@"):
            final = propagate(value, self.story.key, search_key.extension, one.propagates)
        self.story.answer = Found(final)
        if final != value:
            self.story.why = (
                f"“{extension}” goes on to the result (propagate_unmatched_extensions)"
                if extension
                else "“@domain” keeps the local part"
            )
        elif extension:
            self.story.why = f"found without “{extension}”"

    def _note(  # one place that makes steps
        self,
        search_key: SearchKey,
        part: MapTable,
        event: Event,
        *,
        sql: str = "",
        seconds: float = 0.0,
        rows: ResultSet | None = None,
        value: bytes = b"",
        reason: str = "",
        sql_key: bytes | None = None,
    ) -> Step:
        host = self.recorder.host if sql else ""
        step = Step(
            search_key.key,
            search_key.extension,
            part.table.name,
            event,
            sql,
            host,
            seconds,
            rows,
            value,
            reason,
            sql_key,
            part.table.secret,
        )
        self.story.steps.append(step)
        return step


def without_secrets(story: Story) -> Story:
    """Return the story with what secret tables answered hidden."""
    steps = [
        replace(step, rows=_hidden_rows(step.rows), value=HIDDEN) if step.secret else step
        for step in story.steps
    ]
    answer = story.answer
    if story.secret and isinstance(answer, Found):
        answer = Found(HIDDEN)
    return replace(story, steps=steps, answer=answer)


def _hidden_rows(rows: ResultSet | None) -> ResultSet | None:
    if rows is None:
        return None
    return ResultSet(
        rows.columns,
        tuple([tuple([None if one is None else HIDDEN for one in row]) for row in rows.rows]),
    )


def _why_not_asked(name: bytes | None) -> str:
    """Say which rule of mysql_table(5) keeps a key from being asked."""
    if name is None:
        return "the key is not valid UTF-8"
    if b"@" not in name:
        return "the query needs a domain (%d), and the key has none"
    if name.startswith(b"@"):
        return "the query needs a local part (%u), and the key has none"
    return "the domain is not on the table's list of domains, or has too few labels"
