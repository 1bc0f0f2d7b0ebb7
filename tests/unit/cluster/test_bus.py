from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping

import pytest

from mailmapd.cluster import bus as bus_module
from mailmapd.cluster.bus import MOST_FLUSHES, Bus
from mailmapd.cluster.message import FIELD, Hears
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


async def test_flushes_without_a_pause() -> None:
    """A host has carried out what comes before the oldest flush that still goes on, though one always does."""
    ended: dict[str, asyncio.Event] = {name: asyncio.Event() for name in "123"}

    async def flush(request: Mapping[str, object]) -> None:
        await ended[str(request["key"])].wait()

    part = Part(Engine({}, {}, {}, {}), {}, {}, lambda: None, flush)
    bus = Bus(ClusterSettings(url="unix:/nowhere", host="a"), part, FakeClock())
    said = {"v": 1, "host": "b", "run": "r", "seen": "0-0"}
    for added, name in enumerate(ended, start=1):
        bus._reader.position = Position(f"{name}-0", added, "history")
        message = json.dumps(said | {"flush": {"key": name}}).encode()
        bus._heard([(f"{name}-0", {FIELD: message})])
    carried_out = [bus.position.last_id]
    for name, happened in ended.items():
        goes_on = len(bus._flushing)
        happened.set()
        while len(bus._flushing) == goes_on:  # noqa: ASYNC110  # its task has to end
            await asyncio.sleep(0)
        carried_out.append(bus.position.last_id)
        assert bus.reports._due.is_set(), name
        bus.reports._due.clear()
    assert carried_out == ["0-0", "1-0", "2-0", "3-0"]
    await bus._server.close()


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
    await asyncio.gather(*bus._flushing)
    assert flushed == [{"all": True}]
    assert bus._doubted
    assert "defect" not in caplog.text

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    bus._doubted = False
    monkeypatch.setattr(bus._coverage, "heard", broken)
    messages[0]["hears"] = {"mail": heard | {"age": 0}}
    bus._heard(
        [
            (f"{number}-1", {FIELD: json.dumps(message).encode()})
            for number, message in enumerate(messages)
        ]
    )
    await asyncio.gather(*bus._flushing)
    assert len(flushed) == 2
    assert bus._doubted
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
    assert len(open_now) == MOST_FLUSHES
    assert told == [Invalidation()] * 4 * MOST_FLUSHES
    may_end.set()
    await asyncio.gather(*bus._flushing)
    await bus._server.close()
