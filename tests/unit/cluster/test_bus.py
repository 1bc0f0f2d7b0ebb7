from __future__ import annotations

import asyncio

import pytest

from mailmapd.cluster import bus as bus_module
from mailmapd.cluster.bus import Bus, Part
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.engine.engine import Engine
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
