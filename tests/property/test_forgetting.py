"""Answers, invalidations and distrusts in any order, held against a model: no answer is one that must be forgotten.

The way of an answer is the daemon's own, from the bytes of a request to those of its reply: remembered
replies, map, table, cache, flights, and what is loaded from a file. Only the database is a list of
questions that the test answers when it likes, each time with a value that was never there before, so
that an answer tells when its question was sent. The model knows nothing but those moments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from mailmapd.cache import ABSENCE, TableCache
from mailmapd.cache.table_cache import Entry
from mailmapd.config.schema import CacheSection, Seconds
from mailmapd.databases.interface import Database
from mailmapd.engine.definition import Definition, PostfixDefinition
from mailmapd.engine.engine import Engine
from mailmapd.engine.invalidation import Invalidation, TouchedSince
from mailmapd.engine.maps.map import Map, MapTable
from mailmapd.engine.maps.service import MapService
from mailmapd.engine.origin import Done
from mailmapd.engine.outcome import Failure, Known
from mailmapd.engine.table import Table
from mailmapd.protocols import SocketmapCodec
from mailmapd.search import Search
from mailmapd.server.conversation import MapConversation
from mailmapd.server.reply_cache import ReplyCache
from mailmapd.template.fold import fold
from mailmapd.template.mysql_table import MysqlTable
from support.clock import FakeClock
from support.memory_database import MemoryDatabase

TTL, NEGATIVE_TTL, STALE_TTL = 100.0, 40.0, 150.0
FOLLOWED = 400.0
KEYS = (b"a@example.com", b"b@example.com")
SETTINGS = CacheSection(
    ttl=Seconds(TTL),
    negative_ttl=Seconds(NEGATIVE_TTL),
    stale_ttl=Seconds(STALE_TTL),
    negative_stale_ttl=Seconds(STALE_TTL),
    refresh_ahead=0.2,
    jitter=0.0,
)
DEFINITION = PostfixDefinition(MysqlTable.compile("t", b"SELECT a FROM b WHERE c = '%s'"))


@dataclass
class Fetch:
    """One question to the database, and what the model knows of it; moments are steps, times are seconds."""

    key: bytes
    value: bytes  # empty: no row
    asked: int
    done: Done
    kept_until: float = float("-inf")  # when memory must have let go of it
    kept: int = -1  # the step in which it was told
    followed: bool = False


class Questions:
    """An origin that is answered by the test."""

    definition: Definition = DEFINITION
    patience = 1000.0
    schema_error = ""

    def __init__(self, world: World) -> None:
        self.database: Database = MemoryDatabase("mail", {})
        self.open: list[Fetch] = []
        self.gone = False
        self._world = world

    def fetch(self, sql_key: bytes, done: Done) -> None:
        """Note a question; what it will be told is what is true now."""
        value = self._world.draw(sql_key)
        fetch = Fetch(sql_key, value, self._world.step, done)
        self.open.append(fetch)
        self._world.fetches.append(fetch)

    def renew(self, sql_key: bytes, done: Callable[[Known], None]) -> None:
        """Note a question."""
        self.fetch(sql_key, lambda known, _=None: done(known))

    def refusal(self, _: bytes, __: float) -> None:
        """Refuse nothing."""

    def away(self) -> bool:
        """Return whether the test says so."""
        return self.gone

    def lose_patience(self) -> None:
        """Have patience."""

    def spared(self, _: float) -> bool:
        """Refresh always."""
        return False

    def refused(self) -> Iterable[bytes]:
        """Refuse nothing."""
        return ()

    def forget(self, sql_keys: Iterable[bytes]) -> None:
        """Remember nothing."""

    def forget_all(self) -> None:
        """Remember nothing."""


class Follower:
    """Says that changes are followed, while they are."""

    def lifetime(self, _: bytes, absent: bool) -> float:  # noqa: ARG002 (the same for both)
        """Return a long time."""
        return FOLLOWED


@dataclass
class Forgotten:
    """The step at which something was last forgotten."""

    keys: dict[bytes, int] = field(default_factory=dict)
    everything: int = -1

    def at(self, key: bytes) -> int:
        """Return the last step that touched a key."""
        return max(self.keys.get(key, -1), self.everything)


class World:
    """The daemon's parts under test, the model beside them, and what may happen."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.step = self.serial = 0
        self.fetches: list[Fetch] = []
        self.absent: set[bytes] = {KEYS[1]}
        self.forgotten = Forgotten()
        self.distrusts: list[tuple[int, float]] = []
        self.file: dict[bytes, Entry] = {}
        self.begin()

    def begin(self) -> None:
        """Make a daemon that knows nothing."""
        self.started = self.clock.now
        self.sweep: Iterator[int] = iter(())
        self.origin = Questions(self)
        self.table = Table("t", self.origin, TableCache(SETTINGS), self.clock)
        place = MapTable(self.table, DEFINITION, fold=fold)
        asked = Map("m", [place], Search.compile("exact"), self.clock)
        service = MapService("socketmap", self.clock)
        service.serve({"m": asked})
        replies = ReplyCache()
        self.conversation = MapConversation(SocketmapCodec(), service, replies)
        self.engine = Engine({}, {"t": self.table}, {"m": asked}, {})
        self.engine.watchers.append(replies.forget)

    def draw(self, key: bytes) -> bytes:
        """Return what the database holds of a key: a value of its own for each question."""
        self.serial += 1
        return b"" if key in self.absent else b"%d" % self.serial

    # - what may happen

    def time_passes(self, number: int) -> None:
        """Let time pass, up to two times to live."""
        self.clock.now += number * 3.5

    def row_goes_or_comes(self, number: int) -> None:
        """Delete a row, or insert it."""
        self.absent ^= {KEYS[number % len(KEYS)]}

    def client_asks(self, number: int) -> None:
        """Have a client ask; judge the reply, now or when it comes."""
        key = KEYS[number % len(KEYS)]
        request = b"%d:m %s," % (len(key) + 2, key)
        asked = self.step
        recalled = self.conversation.recall(request, self.clock.now)
        if recalled is not None:
            self.judge(key, recalled[0], asked, at_once=True)
            return
        reply = self.conversation.reply_to(
            request, lambda reply: self.judge(key, reply, asked, at_once=False)
        )
        if isinstance(reply, bytes):
            self.judge(key, reply, asked, at_once=True)

    def client_is_answered(self, number: int) -> None:
        """Have a client ask, the database answer, and the client ask for the same once more: a reply is remembered."""
        self.client_asks(number)
        while self.origin.open:
            self.database_answers(0)
        self.client_asks(number)

    def database_answers(self, number: int) -> None:
        """Answer one of the open questions."""
        if not self.origin.open:
            return
        fetch = self.origin.open.pop(number % len(self.origin.open))
        if self.origin.gone:
            fetch.done(Failure("away"))
            return
        fetch.kept = self.step
        fetch.followed = self.table.watch is not None
        ordinary = TTL if fetch.value else NEGATIVE_TTL
        lifetime = ordinary
        if fetch.followed:
            lifetime = FOLLOWED + (0.2 * TTL if fetch.value else 0.0)
        fetch.kept_until = self.clock.now + lifetime
        fetch.done(fetch.value or ABSENCE)

    def database_goes_or_comes(self, _: int) -> None:
        """Have the database be away, or there again."""
        self.origin.gone = not self.origin.gone

    def feed_begins_or_ends(self, _: int) -> None:
        """Follow the changes, or lose sight of them: what is held is proven until some time ago."""
        if self.table.watch is None:
            self.table.watch = Follower()
            self.table.cut_flights()
        else:
            self.table.watch = None
            self.distrust(5)

    def key_is_forgotten(self, number: int) -> None:
        """Apply an invalidation of one key."""
        key = KEYS[number % len(KEYS)]
        self.forgotten.keys[key] = self.step
        self.engine.apply(Invalidation("t", frozenset({key})))

    def all_is_forgotten(self, _: int) -> None:
        """Apply an invalidation of the table."""
        self.forgotten.everything = self.step
        self.engine.apply(Invalidation("t"))

    def distrust(self, number: int) -> None:
        """Distrust what was stored before some time ago, since the start: each host that is lost has its moment."""
        before = max(self.clock.now - number * 2, self.started)
        self.distrusts.append((self.step, before))
        self.engine.apply(Invalidation("t", before=before))

    def sweep_goes_on(self, number: int) -> None:
        """Look at a few more entries for whether they are of use, and begin anew at the end."""
        for _ in range(number % 8):
            if next(self.sweep, None) is None:
                self.sweep = self.table.cache.sweep(self.clock, 1)

    def daemon_restarts(self, number: int) -> None:
        """Write what is held into a file; load it a while later in a daemon that follows nothing yet, or begin to."""
        cache = self.table.cache
        held = {key: cache.peek(key) for key in KEYS}
        self.file = {
            key: cache.proven(entry, self.clock.now) for key, entry in held.items() if entry
        }
        gone = self.origin.gone
        written = self.clock.now
        self.clock.now += number
        self.begin()
        self.origin.gone = gone
        self.table.touched = TouchedSince()
        self.distrusts.append((self.step, written))
        if number % 2:
            self.load_ends(0)

    def load_ends(self, _: int) -> None:
        """Restore what is in the file, unless it was touched since the loading began."""
        for key, entry in self.file.items():
            if self.table.touched is not None and key not in self.table.touched:
                self.table.cache.restore(key, entry, self.clock.now)
        self.table.touched = None

    # - the model

    def judge(self, key: bytes, reply: bytes, asked: int, *, at_once: bool) -> None:
        """Fail if no fetch could have given this answer to a question of that step."""
        word, _, value = reply.partition(b":")[2].removesuffix(b",").partition(b" ")
        if word == b"TEMP":
            assert self.origin.gone, reply
            return
        value = value if word == b"OK" else b""
        answers = [fetch for fetch in self.fetches if fetch.key == key and fetch.value == value]
        assert any(self.may_answer(fetch, asked, at_once=at_once) for fetch in answers), (
            f"{key!r} was answered {reply!r} at {self.clock.now} in step {self.step}"
        )

    def may_answer(self, fetch: Fetch, asked: int, *, at_once: bool) -> bool:
        """Return whether a fetch may answer a question that was asked in that step."""
        if fetch.asked <= self.forgotten.at(fetch.key) < asked:
            return False  # it was forgotten before the client asked
        if not at_once and fetch.kept in {self.step, -1}:
            return True  # it is this very answer that the client waited for
        if fetch.kept < 0 or fetch.asked <= self.forgotten.at(fetch.key):
            return False  # memory must not have kept it
        now, ordinary = self.clock.now, TTL if fetch.value else NEGATIVE_TTL
        until = fetch.kept_until
        for step, before in self.distrusts:
            if fetch.asked <= step < fetch.kept:
                return False
            if fetch.kept <= step:
                until = min(until, before + ordinary)
        stands_in = self.origin.gone and now < until + STALE_TTL
        return now < until or stands_in


EVENTS = (
    World.client_asks,
    World.client_asks,
    World.client_is_answered,
    World.client_is_answered,
    World.client_is_answered,
    World.database_answers,
    World.database_answers,
    World.database_answers,
    World.time_passes,
    World.row_goes_or_comes,
    World.database_goes_or_comes,
    World.feed_begins_or_ends,
    World.key_is_forgotten,
    World.key_is_forgotten,
    World.all_is_forgotten,
    World.distrust,
    World.sweep_goes_on,
    World.daemon_restarts,
    World.load_ends,
)
STEPS = st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 60)), min_size=30, max_size=90)


@settings(max_examples=300)
@given(STEPS)
def test_no_answer_that_must_be_forgotten(steps: list[tuple[Any, int]]) -> None:
    """Whatever happens in whatever order, no client gets an answer that was forgotten, distrusted or expired."""

    async def play() -> None:
        world = World()
        for event, number in steps:
            world.step += 1
            event(world, number)

    asyncio.run(play())
