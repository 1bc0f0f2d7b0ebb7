from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mailmapd.cluster.bus import Bus
from mailmapd.cluster.coverage import BEFORE, Vouched
from mailmapd.cluster.message import Hears
from mailmapd.cluster.part import Part
from mailmapd.cluster.reader import Position
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.cluster.standing import Standing
from mailmapd.config.loader import parse_config
from mailmapd.databases.settings import MysqlSettings
from mailmapd.plan.assembly import assemble, plan
from support.clock import FakeClock
from support.fleet import configuration

SERVERS, TABLES = frozenset({"server"}), frozenset({"digest"})
SOURCE = Vouched(("mx1", "run", "mail"), 1, SERVERS, TABLES)
STANDING = Standing("mailmapd", Position("7-0", 7, "history"), (SOURCE,), {"digest": SERVERS})
DAY = 86_400.0


class Bench:
    """A bus that has begun where memory was written down, with an answer of that memory; nothing is reached."""

    def __init__(self) -> None:
        text = configuration(Path("/tmp"), '"unix:/nowhere"', {"alias": "SELECT 1"}, "")
        planned = plan(parse_config(text, "/tmp/mailmapd.toml"))
        self.clock = FakeClock()
        self.clock.now = 1000.0
        self.engine = assemble(planned, clock=self.clock).engine
        self.cache = self.engine.tables["alias"].cache
        settings = planned.databases["mail"]
        assert isinstance(settings, MysqlSettings)
        databases = {"mail": (settings, planned.changes["mail"])}

        async def flush(_: object) -> None: ...

        part = Part(self.engine, databases, {"alias": "digest"}, lambda: None, flush)
        self.bus = Bus(ClusterSettings(url="unix:/nowhere", host="mx2"), part, self.clock)

    def load(self) -> None:
        """Load what was written down 100 s ago."""
        self.cache.load_in_doubt(self.clock.now - 100)
        self.cache.restore(b"key", (b"value", self.clock.now + DAY), self.clock.now)

    def begin(self, standing: Standing = STANDING) -> None:
        """Join."""
        self.bus.start(standing)
        for database in self.bus._watching._databases.values():
            database.servers._known = dict.fromkeys(database.servers._known, "server")

    def vouch(self) -> None:
        """Let the follower say twice that it has told everything: before now, and now."""
        hears = {"mail": Hears(1, 0.0, SERVERS, TABLES)}
        for moment in (BEFORE, self.clock.now):
            self.bus._coverage.heard("mx1", "run", hears, moment, self.clock.now)
        self.bus._prove(self.clock.now)

    @property
    def is_believed(self) -> bool:
        """Tell whether the answer is fresh for long."""
        entry = self.cache.peek(b"key")
        return entry is not None and entry[1] > self.clock.now + DAY / 2


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.bus.close()
    await bench.engine.close()


async def test_believed(bench: Bench) -> None:
    """What was loaded is believed when its follower says that it has told everything since."""
    bench.begin()
    bench.load()
    bench.bus.beliefs.loaded()
    assert not bench.is_believed
    bench.vouch()
    assert bench.is_believed


async def test_all_of_it_is_loaded_first(bench: Bench) -> None:
    """A word that comes while memory is still loaded is good for all of it, when it is there."""
    bench.begin()
    bench.vouch()
    bench.load()
    assert not bench.is_believed
    bench.bus.beliefs.loaded()
    bench.vouch()
    assert bench.is_believed


async def test_gap(bench: Bench) -> None:
    """After a gap nothing is believed that was written down, also what is loaded later."""
    bench.begin()
    bench.bus._missed("messages were removed")
    bench.load()
    bench.bus.beliefs.loaded()
    bench.vouch()
    assert bench.engine.tables["alias"].watch is not None
    assert not bench.is_believed


async def test_another_stream(bench: Bench) -> None:
    """What was written down beside another stream is not believed because of this one."""
    bench.begin(replace(STANDING, stream="other"))
    bench.load()
    bench.bus.beliefs.loaded()
    bench.vouch()
    assert not bench.is_believed
