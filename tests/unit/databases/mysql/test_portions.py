from __future__ import annotations

import asyncio
import time
from typing import cast

import pytest

from mailmapd.databases.mysql.portions import AT_ONCE, Portions

LONG = bytes(range(256)) * 1024


class Transport:
    """Notes whether it reads, and whether it was ended."""

    def __init__(self) -> None:
        self.reads = True
        self.aborted = False

    def pause_reading(self) -> None:
        """Read no more."""
        self.reads = False

    def resume_reading(self) -> None:
        """Read again."""
        self.reads = True

    def is_closing(self) -> bool:
        """Return whether it was ended."""
        return self.aborted

    def abort(self) -> None:
        """End."""
        self.aborted = True


class Bench:
    """Portions of what comes on a transport, which want bytes up to `most`."""

    def __init__(self, most: int = len(LONG), seconds: float = 0.0) -> None:
        self.transport = Transport()
        self.taken = b""
        self.most = most
        self._seconds = seconds
        self.portions = Portions(cast("asyncio.Transport", self.transport), self.take)

    def take(self, data: bytes) -> bool:
        """Keep bytes, for a while."""
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            pass
        self.taken += data
        return len(self.taken) < self.most


async def turns_of_others(bench: Bench) -> int:
    """Return how many turns others have until all is taken."""
    count = 0
    while bench.portions.waiting and not bench.transport.aborted:
        assert not bench.transport.reads
        count += 1
        await asyncio.sleep(0)
    return count


async def test_short() -> None:
    """What is short is taken at once."""
    bench = Bench()
    bench.portions.receive_data(LONG[:AT_ONCE])
    assert bench.taken == LONG[:AT_ONCE]
    assert bench.transport.reads


async def test_long() -> None:
    """What is long is taken in order, with turns of others in between, and the server is held up meanwhile."""
    bench = Bench(seconds=0.0002)
    bench.portions.receive_data(LONG[:-10])
    bench.portions.receive_data(LONG[-10:])
    assert await turns_of_others(bench) > 10
    assert bench.taken == LONG
    assert bench.transport.reads


async def test_enough() -> None:
    """What comes behind the end is seen to be there, and not taken."""
    bench = Bench(most=20_000)
    bench.portions.receive_data(LONG)
    await turns_of_others(bench)
    assert 20_000 <= len(bench.taken) < 25_000
    assert bench.transport.reads


async def test_hold() -> None:
    """Nothing is taken while whoever reads is behind."""
    bench = Bench()
    bench.portions.receive_data(LONG)
    bench.portions.hold()
    bench.portions.receive_data(LONG)
    for _ in range(10):
        await asyncio.sleep(0)
    assert bench.taken == b""
    assert not bench.transport.reads
    bench.most *= 2
    bench.portions.release()
    await turns_of_others(bench)
    assert bench.taken == 2 * LONG
    bench.portions.hold()
    bench.portions.release()
    assert bench.transport.reads


async def test_defect() -> None:
    """A defect in between ends the connection, so that nobody waits for what is not read any more."""
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    bench = Bench()
    bench.portions = Portions(cast("asyncio.Transport", bench.transport), lambda _: 1 // 0 > 0)
    bench.portions.receive_data(LONG)
    await turns_of_others(bench)
    assert bench.transport.aborted
    assert raised
    with pytest.raises(ZeroDivisionError):
        Portions(cast("asyncio.Transport", bench.transport), lambda _: 1 // 0 > 0).receive_data(
            b"x"
        )
