from __future__ import annotations

import asyncio

from mailmapd.single_flight import SingleFlight


async def test_shared() -> None:
    """A flight in the air is found by everybody who asks for its key, and is gone when it has landed."""
    flights: SingleFlight[int] = SingleFlight()
    release = asyncio.Event()

    async def fetch() -> int:
        await release.wait()
        return 7

    task = flights.start(b"k", fetch)
    assert flights.find(b"k") is task
    assert flights.find(b"other") is None
    release.set()
    assert await task == 7
    await asyncio.sleep(0)
    assert flights.find(b"k") is None


async def test_forgotten() -> None:
    """A flight that was cut loose learns that its answer is not wanted, and does not end its successor's."""
    flights: SingleFlight[bool] = SingleFlight()
    release = asyncio.Event()

    async def fetch() -> bool:
        await release.wait()
        return flights.wanted(b"k")

    old = flights.start(b"k", fetch)
    flights.forget(b"k")
    new = flights.start(b"k", fetch)
    release.set()
    assert [await old, await new] == [False, True]
    await asyncio.sleep(0)
    assert len(flights) == 0


async def test_forget_all() -> None:
    """Cutting all flights loose leaves none to join."""
    flights: SingleFlight[bool] = SingleFlight()

    async def fetch() -> bool:
        return flights.wanted(b"a")

    task = flights.start(b"a", fetch)
    flights.forget_all()
    assert flights.find(b"a") is None
    assert await task is False
