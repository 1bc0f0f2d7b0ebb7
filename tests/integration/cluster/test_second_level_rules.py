"""The rules of the second level on a real server, with a source that is behind what was told: each is seen to matter.

A change is told when it is committed, and the source of rows shows it only later: whoever asks in between sees the old
row. What is left in the second level when all is over must not be that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mailmapd.cache import TableCache
from mailmapd.changes.lease import Lease
from mailmapd.changes.touched import Touched
from mailmapd.cluster import exchange, second_level
from mailmapd.cluster.exchange import Exchange
from mailmapd.cluster.scripts import Script
from mailmapd.cluster.sealing import Sealer
from mailmapd.cluster.second_level import SecondLevel
from mailmapd.cluster.server import Server
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.cluster.shared_answer import Place, SharedAnswer
from mailmapd.cluster.shared_origin import SharedOrigin
from mailmapd.config.schema import CacheSection
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.origin import QueryOrigin
from mailmapd.engine.outcome import Known
from mailmapd.engine.table import Table
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.statement import Statement
from support.clock import FakeClock
from support.mariadb import private_directory
from support.memory_database import MemoryDatabase, Values
from support.polling import until
from support.settled import is_busy
from support.valkey import Valkey

pytestmark = [pytest.mark.servers, pytest.mark.root]

DEFINITION = PostfixDefinition(
    MysqlTable.compile("alias", b"SELECT goto FROM alias WHERE a = '%s'")
)
KEYS = [b"u%d@example.com" % number for number in range(3000)]
AT_ONCE = 250
PLACE = Place((1, 0), "history", frozenset({"00" * 8}))


class Everything:
    """Believes everything, so that the second level's own rules are all there is."""

    def history(self) -> str:
        """Return that any server will do."""
        return ""

    def may_ask(self, _: str, __: bytes) -> bool:
        """Return that nothing is untold."""
        return True

    def place(self, _: str) -> Place:
        """Return some place."""
        return PLACE

    def believes(self, _: str, __: SharedAnswer) -> bool:
        """Return that it is so."""
        return True


class Source:
    """Rows that everybody asks for: those in `shown` are new."""

    def __init__(self) -> None:
        self.shown: set[bytes] = set()
        self.database = MemoryDatabase("mail", self.rows)

    def rows(self, _: Statement, values: Values) -> list[tuple[bytes]]:
        """Return what a row is now."""
        return [(b"new" if values[0] in self.shown else b"old",)]


class Asker:
    """A host, as far as the second level knows: `fetch` is what a miss in memory does."""

    def __init__(self, settings: ClusterSettings, source: Source) -> None:
        clock = FakeClock()
        self.exchange = Exchange(Server(settings), 2**30, clock)
        origin = QueryOrigin("alias", DEFINITION, source.database, clock)
        self.table = Table("alias", origin, TableCache(CacheSection()), clock)
        lease = Lease(86400.0, 86400.0)
        lease.holds = True
        self.table.watch = lease
        self.origin = SharedOrigin(
            self.table,
            "digest",
            exchange=self.exchange,
            sealer=Sealer(settings.key, settings.shared),
            trust=Everything(),
        )

    async def fetch(self, key: bytes) -> Known:
        """Return what the second level or the source says."""
        later: asyncio.Future[Known] = asyncio.get_running_loop().create_future()
        self.origin.fetch(key, lambda known, _=None: later.set_result(known))
        return await later

    async def fetch_all(self, keys: list[bytes]) -> list[Known]:
        """Return it for many keys, some at a time."""
        found: list[Known] = []
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            found += await asyncio.gather(*[self.fetch(key) for key in some])
        return found

    async def settle(self) -> None:
        """Wait until everything that is to be shared was told."""
        await until(lambda: not is_busy(self.exchange))


class Bench:
    """Two hosts, a third one that starts with nothing, and whoever tells of changes."""

    def __init__(self, server: Valkey) -> None:
        self.settings = ClusterSettings(url=server.url, key=b"k" * 32, second_level=True)
        self.source = Source()
        self.askers = [Asker(self.settings, self.source) for _ in range(3)]
        self.teller = Server(self.settings)
        self.level = SecondLevel(self.settings, FakeClock())

    async def open(self) -> None:
        """Begin."""
        asyncio.get_running_loop().set_debug(False)
        for asker in self.askers:
            asker.exchange.start()
        await until(lambda: all(asker.exchange.is_open for asker in self.askers))

    async def close(self) -> None:
        """End."""
        for asker in self.askers:
            await asker.exchange.close()
        await self.teller.close()
        await self.level.close()

    async def tell(self, keys: list[bytes]) -> None:
        """Tell that keys were touched."""
        await self.teller.add([], self.level.commands(Touched(keys={"digest": set(keys)})))

    async def outdated(self, changed: list[bytes]) -> int:
        """Change every row, have it told, and ask around it; return how many answers are old in the end."""
        first, second, cold = self.askers
        for start in range(0, len(changed), AT_ONCE):
            keys = changed[start : start + AT_ONCE]
            half = keys[: AT_ONCE // 2]
            await first.fetch_all(keys[AT_ONCE // 4 :])
            await first.settle()
            # Some have asked, with a token, before it is told, and have the old row after that …
            self.source.database.hold()
            asking = asyncio.create_task(second.fetch_all(half))
            wanted = len(self.source.database.asked) + AT_ONCE // 4
            await until(lambda wanted=wanted: len(self.source.database.asked) >= wanted)  # type: ignore[misc]
            await self.tell(keys)
            self.source.database.release()
            await asking
            # … and others ask when it has been told, while the source is still behind
            await first.fetch_all(keys)
            for asker in (first, second):
                await asker.settle()
            self.source.shown.update(keys)
        await asyncio.sleep(second_level.TOMBSTONE * 1.5)
        found = await cold.fetch_all(changed)
        await cold.settle()
        return found.count(b"old")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    with private_directory() as folder, Valkey(folder) as server:
        bench = Bench(server)
        yield bench
        await bench.close()


NAIVE = Script(
    "for i = 1, #KEYS, 2 do redis.call('SET', KEYS[i], ARGV[(i - 1) / 2 * 3 + 3]) end return 0"
)


@pytest.mark.parametrize("rules", ["all", "neither", "no token", "no tombstone"])
async def test_source_behind(bench: Bench, rules: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 3 000 changed rows none is left as it was; without the token, or without the tombstone, many are."""
    monkeypatch.setattr(second_level, "TOMBSTONE", 1.0)
    monkeypatch.setattr(exchange, "DEADLINE", 10.0)  # a busy machine makes nobody leave it aside
    if rules in ("neither", "no token"):
        monkeypatch.setattr(exchange, "FILL", NAIVE)
    if rules in ("neither", "no tombstone"):
        text = "for i = 1, #KEYS do redis.call('UNLINK', KEYS[i]) end"
        monkeypatch.setattr(second_level, "TOUCH", Script(text))
    await bench.open()
    keys = KEYS if rules == "all" else KEYS[: 2 * AT_ONCE]
    outdated = await bench.outdated(keys)
    print(f"{rules}: {outdated} of {len(keys)} are outdated")
    filled = sum(asker.exchange.counts["filled"] for asker in bench.askers)
    if rules == "all":
        assert outdated == 0
        assert filled >= len(keys), "nothing was shared, so that this shows nothing"
    else:
        assert outdated > len(keys) / 10


async def test_thrown_out(bench: Bench) -> None:
    """A full server may throw tokens, tombstones, marks and answers out: who asked before shares nothing."""
    first, second, _ = bench.askers
    await bench.open()
    key = KEYS[0]
    bench.source.database.hold()
    asking = asyncio.create_task(first.fetch(key))
    await until(lambda: len(bench.source.database.asked) == 1)
    await bench.tell([key])
    value, guard = first.origin._sealer.answer("digest", key)
    await bench.teller.carry_out([("DEL", guard)])
    bench.source.database.release()
    assert await asking == b"old"
    await first.settle()
    assert first.exchange.counts["refused"] == 1
    bench.source.shown.add(key)
    assert await second.fetch(key) == b"new"
    await second.settle()
    assert await first.fetch(key) == b"new"
    assert first.origin.counts["hit"] == 1
    await bench.teller.carry_out([("DEL", first.origin._marks[0])])
    assert await first.fetch(key) == b"new"
    assert (first.origin.counts["hit"], first.origin.counts["disbelieved"]) == (1, 1)
    await first.settle()
    await second.fetch(key)
    await second.settle()
    await bench.teller.carry_out([("DEL", value)])
    assert await first.fetch(key) == b"new"
