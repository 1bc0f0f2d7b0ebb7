from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from mailmapd.cluster import reader
from mailmapd.cluster.reader import Position, Reader
from mailmapd.cluster.server import BATCH, Condition, Entry
from mailmapd.errors import ClusterError
from mailmapd.tasks import end_tasks
from support.clock import FakeClock
from support.polling import until


class Script:
    """A stream as a script says it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.added = 0
        self.last = "0-0"
        self.history = "first"
        self.most = BATCH  # messages that come before the deadline

    def add(self, *ids: str) -> None:
        """Add messages."""
        self.entries += [(identity, {}) for identity in ids]
        self.added += len(ids)
        self.last = ids[-1]

    async def check(self, after: str, count: int) -> tuple[list[Entry], Condition]:
        """Return what is behind an id, and how the stream is."""
        return self._behind(after, count), Condition(self.last, self.added, self.history)

    async def read(self, after: str, _: float, count: int) -> list[Entry]:
        """Return what is behind an id."""
        return self._behind(after, count)

    def _behind(self, after: str, count: int) -> list[Entry]:
        def number(identity: str) -> tuple[int, ...]:
            return tuple(map(int, identity.split("-")))

        found = [entry for entry in self.entries if number(entry[0]) > number(after)][:count]
        if len(found) > self.most:
            raise ClusterError("no answer")
        return found


class Bench:
    """A reader of a script, and what it says."""

    def __init__(self, position: Position | None = None) -> None:
        self.script = Script()
        self.clock = FakeClock()
        self.heard: list[str] = []
        self.proven: list[float] = []
        self.missed: list[str] = []
        self.reader = Reader(
            self.script,  # type: ignore[arg-type]
            position or Position(),
            self.clock,
            heard=lambda entries: self.heard.extend(identity for identity, _ in entries),
            proven=self.proven.append,
            missed=self.missed.append,
            changed=lambda _: None,
        )

    async def check(self, now: float) -> None:
        """Have the stream looked at."""
        self.clock.now = now
        await self.reader._check()


async def test_long_messages_one_by_one() -> None:
    """Lookups have their turn between long messages, and the position is never ahead of what was carried out."""
    bench = Bench()
    bench.script.add("1-0")
    await bench.check(5.0)
    ids = [f"{number}-0" for number in range(2, 12)]
    bench.script.add(*ids)
    bench.script.entries = [
        (identity, {b"m": b"x" * 100_000}) for identity, _ in bench.script.entries
    ]
    reading = asyncio.create_task(bench.check(6.0))
    seen = []
    while not reading.done():
        await asyncio.sleep(0)
        seen.append(len(bench.heard))
        assert bench.reader.position.last_id == (bench.heard or ["1-0"])[-1]
    await reading
    assert bench.heard == ids
    assert {*range(1, 11)} <= {*seen}
    assert (bench.missed, bench.proven) == ([], [5.0, 6.0])


async def test_begins_at_the_end() -> None:
    """What was said before a host joined for the first time is about nothing that it knows."""
    bench = Bench()
    bench.script.add("1-0", "2-0")
    await bench.check(5.0)
    assert (bench.heard, bench.missed, bench.proven) == ([], [], [5.0])
    bench.script.add("3-0")
    await bench.check(6.0)
    assert (bench.heard, bench.missed, bench.proven) == (["3-0"], [], [5.0, 6.0])


async def test_goes_on() -> None:
    """A host that comes back hears all that was said meanwhile, and knows that it is all."""
    bench = Bench(Position("1-0", 1, "first"))
    bench.script.add("1-0")
    bench.script.add(*[f"{number}-0" for number in range(2, BATCH + 20)])
    await bench.check(9.0)
    assert len(bench.heard) == BATCH + 18
    assert (bench.missed, bench.proven) == ([], [9.0])
    assert bench.reader.moment("5-0") == float("-inf"), "when it was said is not known"


@pytest.mark.parametrize("what", ["history", "removed", "behind", "trimmed", "more"])
async def test_gaps(what: str) -> None:
    """Whatever shows that something was missed is said, before anything is proven again."""
    bench = Bench(Position("3-0", 3, "first"))
    bench.script.add("1-0", "2-0", "3-0")
    match what:
        case "history":
            bench.script.history = "second"
        case "removed":
            bench.script.added += 1
            bench.script.last = "4-0"
        case "behind":
            bench.script.entries.pop()
            bench.script.last = "2-0"
        case "trimmed":
            bench.script.add("4-0", "5-0")
            del bench.script.entries[:4]
        case _:
            bench.script.added += 7
    await bench.check(9.0)
    [missed] = bench.missed
    assert ("behind" in missed) == (what == "behind")
    assert bench.reader.position.last_id == ("0-0" if what == "behind" else bench.script.last)
    bench.script.add("9-0")
    await bench.check(10.0)
    await bench.check(11.0)
    assert bench.heard[-1] == "9-0"
    assert bench.proven[-1] == 11.0


async def test_moments() -> None:
    """A message was not there before the last look that did not find it."""
    bench = Bench()
    await bench.check(1.0)
    for now, identity in ((2.0, "10-0"), (3.0, "20-0")):
        bench.script.add(identity)
        bench.clock.now = now
        await bench.reader._take(
            await bench.script.read(bench.reader.position.last_id, 0, BATCH), now
        )
    assert bench.reader.moment("10-0") == 1.0
    assert bench.reader.moment("20-0") == 2.0
    assert bench.reader.moment("25-0") == 2.0
    assert bench.reader.moment("9-0") is None


def ids(numbers: Iterable[int]) -> list[str]:
    return [f"{number}-0" for number in numbers]


async def test_full_batches_prove_no_moment() -> None:
    """While more is there than is read at once, what comes next may have been there for long."""
    bench = Bench()
    await bench.check(1.0)
    bench.script.add(*ids(range(1, 2 * BATCH)))
    bench.clock.now = 2.0
    await bench.reader._take(await bench.script.read("0-0", 0, BATCH), 2.0)
    bench.clock.now = 3.0
    await bench.reader._take(await bench.script.read(bench.reader.position.last_id, 0, BATCH), 3.0)
    assert bench.reader.moment(f"{2 * BATCH - 1}-0") == 1.0


async def test_long_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """When messages are so long that few of them come in time, fewer are asked for, and all are read."""
    monkeypatch.setattr(reader, "RETRY", 0.0)
    monkeypatch.setattr(reader, "REST", 0.0)
    bench = Bench(Position("1-0", 1, "first"))
    bench.script.add(*ids(range(1, 60)))
    bench.script.most = 1
    task = asyncio.create_task(bench.reader.run())
    await until(lambda: bench.heard == ids(range(2, 60)))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert bench.missed == []


async def test_turns() -> None:
    """Whoever else is ready has a turn between the reading of messages and what they say."""
    bench = Bench()
    order: list[str] = []

    class Slow(Script):
        async def read(self, after: str, patience: float, count: int) -> list[Entry]:
            found = await super().read(after, patience, count)
            if found:
                order.append("read")
                asyncio.get_running_loop().call_soon(order.append, "lookup")
            return found

    bench.reader._server = slow = Slow()  # type: ignore[assignment]
    bench.reader._heard = lambda _: order.append("heard")
    reading = asyncio.create_task(bench.reader.run())
    await asyncio.sleep(0)
    slow.add("1-0")
    await until(lambda: "heard" in order)
    await end_tasks([reading])
    assert order == ["read", "lookup", "heard"]
