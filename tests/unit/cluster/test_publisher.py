"""The publisher: flushes that come at once are told at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from mailmapd.cluster.message import FIELD, Codec
from mailmapd.cluster.publisher import Publisher
from mailmapd.cluster.reader import Position
from mailmapd.errors import ClusterError


class Script:
    """A server that takes messages once it is `open`, and remembers each lot of them."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.lots: list[list[Any]] = []
        self.failure = ""

    async def add(
        self, messages: Iterable[Mapping[bytes, bytes]], _: object = (), __: str = ""
    ) -> list[str]:
        """Take messages."""
        lot = [json.loads(message[FIELD])["flush"]["user"] for message in messages]
        self.lots.append(lot)
        await self.open.wait()
        if self.failure:
            raise ClusterError(self.failure)
        return [f"{len(self.lots)}-{place}" for place in range(len(lot))]


def bench() -> tuple[Script, Publisher]:
    script: Any = Script()
    return script, Publisher(
        script,
        Codec(),
        ("mx1", "run"),
        place=Position,
        hears=dict,
        clock=lambda: 0.0,
    )


async def tell(publisher: Publisher, count: int) -> list[asyncio.Task[str]]:
    """Have flushes told at the same time."""
    tasks = [asyncio.create_task(publisher.flush({"user": n})) for n in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_together() -> None:
    """While the first flush is on its way, all others gather, and each hears the id of its own message."""
    script, publisher = bench()
    tasks = await tell(publisher, 300)
    script.open.set()
    assert await asyncio.gather(*tasks) == ["1-0", *[f"2-{place}" for place in range(299)]]
    assert script.lots == [[0], list(range(1, 300))]
    assert publisher.sent == 300


async def test_not_told() -> None:
    """When a lot could not be told, everybody in it hears why; the next one may be told."""
    script, publisher = bench()
    script.failure = "it is full"
    tasks = await tell(publisher, 5)
    script.open.set()
    failures = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(failure) for failure in failures] == ["it is full"] * 5
    script.failure = ""
    assert await publisher.flush({"user": 9}) == "3-0"


async def test_who_tells_leaves() -> None:
    """When the one leaves who tells a lot, another one tells it."""
    script, publisher = bench()
    first, second, third = await tell(publisher, 3)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    script.open.set()
    assert [await second, await third] == ["2-1", "2-2"]
    assert script.lots == [[0], [0, 1, 2]]
