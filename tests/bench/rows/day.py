"""A day of mail in compressed time (see `bench.mail`).

How many SELECTs reach the database, beside those that Postfix would have sent (row 8).
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from bench.mail import (
    ATTACK,
    DAY,
    TURN,
    Asked,
    Mail,
    MailDatabase,
    Recipients,
    drawn_changes,
    lookups,
)
from bench.report import Line, count
from bench.workbench import Workbench
from mailmapd.changes.lease import Lease
from mailmapd.config.schema import CacheSection, Seconds
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.maps.map import Map
from mailmapd.template.fold import fold
from support.clock import FakeClock
from support.memory_database import Rows, Values, values_of

ROWS = (8,)
FOLLOWED = "changes followed, as by default (1 day), 1 % of the mailboxes changed"
SETTINGS = {
    "default times to live (5 min, absent 1 min)": CacheSection(),
    "times to live of 2 days, for hosts that flush what they change": CacheSection(
        ttl=Seconds(2 * DAY), negative_ttl=Seconds(2 * DAY)
    ),
    FOLLOWED: CacheSection(),
}


class TimedDatabase(MailDatabase):
    """Notes when each key was asked for."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock
        self._last: dict[Asked, float] = {}
        self.shortest: dict[bool, float] = {True: inf, False: inf}
        """The shortest time between two SELECTs for one key, of a row and of an absence."""

    def answer(self, table: str, values: Values) -> Rows:
        """Return the rows for a SELECT."""
        rows = super().answer(table, values)
        asked = (table, values)
        if asked in self._last:
            kind = bool(rows)
            self.shortest[kind] = min(self.shortest[kind], self._clock.now - self._last[asked])
        self._last[asked] = self._clock.now
        return rows


class Selects(NamedTuple):
    """One SELECT that Postfix sends for a lookup, and whether it finds a row."""

    asked: Asked
    row: bool


class Day:
    """One host's day, and what it would be otherwise.

    `postfix` counts the SELECTs that Postfix would have sent, `least` those that no cache with the
    same times to live can avoid.
    """

    def __init__(self, settings: CacheSection, *, followed: bool) -> None:
        lease = Lease(DAY, DAY) if followed else None
        if lease is not None:
            lease.holds = True
        self.hears = followed
        self.clock = FakeClock()
        self.database = TimedDatabase(self.clock)
        self.mail = Mail(self.database, self.clock, settings, watch=lease)
        self.postfix = self.least = 0
        self._selects: dict[tuple[str, bytes], list[Selects]] = {}
        self._expires: dict[Asked, float] = {}

    async def pass_by(
        self, recipients: int, chance: random.Random, changing: random.Random
    ) -> None:
        """Let so many recipients come in; `changing` decides what changes meanwhile."""
        drawn = Recipients(chance)
        changes = deque(drawn_changes(drawn.people, changing))
        for number, (now, address, known) in enumerate(drawn.drawn(recipients)):
            while changes and changes[0][0] <= now:
                self._change(changes.popleft()[1])
            if number % TURN == 0:
                await asyncio.sleep(0)
            self.clock.now = now
            for name, key in lookups(address, known=known):
                self.mail.ask(name, key)
                self._count(name, key)

    def _change(self, address: bytes) -> None:
        """Hear that the rows of a mailbox have changed, if anything is heard."""
        for table in self.mail.tables.values() if self.hears else ():
            table.apply(Invalidation(table.name, frozenset((address,))))

    def _count(self, name: str, key: bytes) -> None:
        selects = self._selects.get((name, key))
        if selects is None:
            selects = list(self._postfix_selects(self.mail.maps[name], key))
            self._selects[name, key] = selects
        self.postfix += len(selects)
        settings = self.mail.settings
        for select in selects:
            if self.clock.now >= self._expires.get(select.asked, 0.0):
                self.least += 1
                ordinary = settings.ttl if select.row else settings.negative_ttl
                self._expires[select.asked] = self.clock.now + (DAY if self.hears else ordinary)

    def _postfix_selects(self, map_: Map, key: bytes) -> Iterator[Selects]:
        """Yield the SELECTs that Postfix sends for a lookup: key by key over the tables until one has a row."""
        for search_key, place in itertools.product(map_.search.keys(key), map_.tables):
            folded = fold(search_key.key)
            sql_key = None if folded is None else place.sql_key(folded)
            if sql_key is None:
                continue
            statement = place.definition.statement(sql_key)
            asked = (statement.table, values_of(statement))
            row = bool(self.database.rows(*asked))
            yield Selects(asked, row)
            if row:
                break


def measure(bench: Workbench, _: set[int]) -> Iterator[Line]:
    """Yield the lines of row 8."""
    for name, settings in SETTINGS.items():
        day = Day(settings, followed=name == FOLLOWED)
        drawn = [bench.draws.chance(purpose) for purpose in ("day", "changes of a day")]
        asyncio.run(day.pass_by(bench.scale.day_recipients, *drawn))
        yield from _lines(name, day, bench.scale.day_recipients)


def _lines(name: str, day: Day, recipients: int) -> Iterator[Line]:
    sent, settings = day.database.selects, day.mail.settings
    avoided = 1 - sent / day.postfix
    yield Line(
        8,
        f"SELECTs of a day, {count(recipients)} recipients, {ATTACK:.0%} dictionary attack; {name}",
        count(sent),
        f"Postfix alone {count(day.postfix)}; no cache with these times to live needs less than {count(day.least)}",
        f"{avoided:.2%} avoided",
        "≥ 99 %",
        avoided >= 0.99,
    )
    if day.hears:
        return
    spread = 1 - settings.jitter
    fresh = {
        True: settings.ttl * (1 - settings.refresh_ahead) * spread,
        False: settings.negative_ttl * spread,
    }
    shortest = day.database.shortest
    yield Line(
        8,
        "the same: shortest time between two SELECTs for one key",
        ", ".join(
            _seconds(shortest[kind], what) for kind, what in ((True, "row"), (False, "absent"))
        ),
        target=f"≥ {fresh[True]:.0f} s, {fresh[False]:.0f} s",
        met=all(shortest[kind] >= fresh[kind] for kind in fresh),
    )


def _seconds(shortest: float, kind: str) -> str:
    return f"no second one ({kind})" if shortest == inf else f"{shortest:.0f} s ({kind})"
