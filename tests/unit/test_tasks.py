"""Ending tasks."""

from __future__ import annotations

import asyncio

import pytest

from mailmapd import tasks
from mailmapd.tasks import end_tasks


async def _swallow_first() -> None:
    """Go on after the first cancellation."""
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await asyncio.sleep(3600)


async def _fail() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        raise ValueError("at the end")


async def test_a_lost_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that passes over its cancellation is cancelled again; one that fails as it ends has ended."""
    monkeypatch.setattr(tasks, "AGAIN", 0.001)
    running = [asyncio.create_task(_swallow_first()), asyncio.create_task(_fail())]
    await asyncio.sleep(0)
    await asyncio.wait_for(end_tasks(running), 5)
    assert all(task.done() for task in running)


async def test_nothing_to_end() -> None:
    """Nothing, and what has ended already, need no waiting."""
    await end_tasks([])
    over = asyncio.create_task(asyncio.sleep(0))
    await over
    await end_tasks([over])
