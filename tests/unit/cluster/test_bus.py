from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from mailmapd.cluster import bus as bus_module
from mailmapd.cluster.bus import DOUBTS_APART, MOST_APART, MOST_FLUSHES, Bus
from mailmapd.cluster.message import FIELD, Hears, NotUnderstood
from mailmapd.cluster.part import Part
from mailmapd.cluster.reader import Position
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.engine.engine import Engine
from mailmapd.engine.invalidation import Invalidation
from support.clock import FakeClock


async def test_a_defect_ends_what_others_vouch_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the look at what still holds fails by a fault of ours, nothing is watched for others, and it goes on."""
    monkeypatch.setattr(bus_module, "TICK", 0.001)

    async def flush(_: object) -> None: ...

    part = Part(Engine({}, {}, {}, {}), {}, {}, lambda: None, flush)
    bus = Bus(ClusterSettings(url="unix:/nowhere", host="a"), part, FakeClock())
    lost: list[int] = []
    twice = asyncio.Event()

    def broken() -> None:
        raise ZeroDivisionError

    def lose() -> None:
        lost.append(1)
        if len(lost) == 2:
            twice.set()

    monkeypatch.setattr(bus._watching, "look", broken)
    monkeypatch.setattr(bus._watching, "lose", lose)
    ticking = asyncio.create_task(bus._tick())
    await asyncio.wait_for(twice.wait(), 5)
    ticking.cancel()
    await asyncio.gather(ticking, return_exceptions=True)
    await bus._server.close()


async def test_who_leaves_vouches_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes while a bus closes is told to nobody: no heartbeat of that time vouches for it."""

    async def flush(_: object) -> None: ...

    part = Part(Engine({}, {}, {}, {}), {}, {}, lambda: None, flush)
    bus = Bus(ClusterSettings(url="unix:/nowhere", host="a"), part, FakeClock())
    vouched: list[object] = []

    async def add(
        messages: Iterable[Mapping[bytes, bytes]], _: object = (), __: str = ""
    ) -> list[str]:
        said = [json.loads(message[FIELD]).get("hears") for message in messages]
        vouched.extend(said)
        return ["1-0" for _ in said]

    async def ends_late() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await bus._publisher._send()

    hears = {"mail": Hears(1, 0.0, frozenset({"server"}), frozenset({"digest"}))}
    monkeypatch.setattr(bus._publisher, "_hears", lambda: hears)
    monkeypatch.setattr(bus._server, "add", add)
    await bus._publisher._send()
    bus._tasks = [asyncio.create_task(ends_late())]
    await asyncio.sleep(0)
    await bus.close()
    assert vouched[0]
    assert vouched[1:] == [{}]


async def test_nothing_is_lost_behind_what_is_odd(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands in a message, and whatever fails in us, the messages behind it are carried out."""
    flushed: list[object] = []

    async def flush(request: object) -> None:
        flushed.append(request)

    part = Part(Engine({}, {}, {}, {}), {}, {}, lambda: None, flush)
    bus = Bus(ClusterSettings(url="unix:/nowhere", host="a"), part, FakeClock())
    said = {"v": 1, "host": "b", "run": "r", "seen": "0-0"}
    heard = {"epoch": 1, "age": 10**400, "since": "", "servers": [], "tables": []}
    messages = [said | {"hears": {"mail": heard}}, said | {"flush": {"all": True}}]
    bus._heard(
        [
            (f"{number}-0", {FIELD: json.dumps(message).encode()})
            for number, message in enumerate(messages)
        ]
    )
    await open_flushes(bus)
    assert flushed == [{"all": True}]
    assert bus_module._DOUBT in bus._open
    assert "defect" not in caplog.text

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    bus._open.clear()
    monkeypatch.setattr(bus._coverage, "heard", broken)
    messages[0]["hears"] = {"mail": heard | {"age": 0}}
    bus._heard(
        [
            (f"{number}-1", {FIELD: json.dumps(message).encode()})
            for number, message in enumerate(messages)
        ]
    )
    await open_flushes(bus)
    assert len(flushed) == 2
    assert bus_module._DOUBT in bus._open
    await bus._server.close()


async def open_flushes(bus: Bus) -> None:
    """Wait until every flush has been carried out."""
    await asyncio.gather(*[flush for flush in bus._open if isinstance(flush, asyncio.Task)])


def flush_of(user: str) -> dict[bytes, bytes]:
    """Return another host's message."""
    said = {"v": 1, "host": "b", "run": "r", "seen": "0-0", "flush": {"user": user}}
    return {FIELD: json.dumps(said).encode()}


async def test_confirmed_up_to_the_first_that_is_open() -> None:
    """A flush is confirmed when it and all before it are carried out, whatever has been read behind it meanwhile."""
    may_end = {user: asyncio.Event() for user in ("a", "b", "c")}

    async def flush(request: Mapping[str, Any]) -> None:
        await may_end[request["user"]].wait()

    async def ends(user: str) -> Position:
        may_end[user].set()
        await asyncio.sleep(0.01)
        return bus.position

    part = Part(Engine({}, {}, {}, {}), {}, {}, lambda: None, flush)
    clock = FakeClock()
    bus = Bus(ClusterSettings(url="unix:/nowhere", host="x"), part, clock)
    reader, begun = bus._reader, Position("1-0", 10, "h")
    reader.position = begun
    await reader._take([("2-0", flush_of("a")), ("3-0", flush_of("b"))], 0.0)
    await reader._take([("4-0", {}), ("5-0", flush_of("c"))], 0.0)
    assert bus.position == begun
    assert await ends("b") == begun
    assert not bus.reports._due.is_set()
    assert await ends("a") == Position("3-0", 12, "h"), "the one behind is not understood"
    assert bus.reports._due.is_set()
    bus._doubt_what_is_known()
    assert bus.position == Position("4-0", 13, "h")
    assert await ends("c") == Position("5-0", 14, "h")
    await bus._server.close()


async def test_what_is_not_understood_again_and_again() -> None:
    """Messages that are not understood have everything doubted at once, then more and more seldom."""
    engine, clock = Engine({}, {}, {}, {}), FakeClock()
    doubted: list[Invalidation] = []
    engine.watchers.append(doubted.append)

    async def flush(_: object) -> None:
        raise NotUnderstood

    bus = Bus(
        ClusterSettings(url="unix:/nowhere", host="x"),
        Part(engine, {}, {}, lambda: None, flush),
        clock,
    )
    reader = bus._reader
    for number in range(1, 200):
        clock.now += 0.5
        await reader._take([(f"{number}-0", {} if number % 2 else flush_of("a"))], clock.now)
        await asyncio.sleep(0)
        bus._doubt_what_is_known()
        if number == 1:
            assert len(doubted) == 1
            assert bus.position == reader.position
    assert len(doubted) == 7, "after 0, 1, 3, 7, 15, 31 and 63 s of a hundred"
    assert bus.position != reader.position, "the last one may be a newer version's flush"
    clock.now += MOST_APART
    bus._doubt_what_is_known()
    assert bus.position == reader.position
    clock.now += MOST_APART + 1
    for _ in range(2):
        await reader._take([("999-0", {})], clock.now)
        bus._doubt_what_is_known()
        clock.now += DOUBTS_APART
    assert len(doubted) == 10
    await bus._server.close()


async def test_very_many_flushes() -> None:
    """Flushes that come faster than they are carried out are carried out all at once: everything is forgotten."""
    open_now: list[object] = []
    may_end = asyncio.Event()

    async def flush(request: object) -> None:
        open_now.append(request)
        await may_end.wait()

    engine = Engine({}, {}, {}, {})
    told: list[Invalidation] = []
    engine.watchers.append(told.append)
    part = Part(engine, {}, {}, lambda: None, flush)
    bus = Bus(ClusterSettings(url="unix:/nowhere", host="a"), part, FakeClock())
    said = {"v": 1, "host": "b", "run": "r", "seen": "0-0", "flush": {"domain": "example.com"}}
    fields = {FIELD: json.dumps(said).encode()}
    for number in range(5):
        bus._heard([(f"{number}-{place}", fields) for place in range(MOST_FLUSHES)])
        await asyncio.sleep(0)
    everything = {"all": True}
    assert (len(open_now), open_now.count(everything)) == (MOST_FLUSHES + 1, 1)
    assert told == [Invalidation()] * 4 * MOST_FLUSHES
    may_end.set()
    await open_flushes(bus)
    assert open_now.count(everything) == 2, "what came meanwhile was written down, too"
    await bus._server.close()
