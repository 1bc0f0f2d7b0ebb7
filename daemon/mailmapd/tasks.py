"""Tasks: how one that runs for ever is ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

AGAIN = 0.5
"""Seconds after which a task that goes on all the same is cancelled once more."""


async def end_tasks(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks, and wait until all have ended, however they do.

    A cancellation can be lost in a library: `asyncio.wait_for` of Python 3.11 passes over one that comes at the moment
    when what it waits for ends, and the task would go on for ever.
    """
    pending = set(tasks)
    ended: set[asyncio.Task[None]] = set()
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=AGAIN)
        ended |= done
    for task in ended:
        if not task.cancelled():
            task.exception()  # nobody else looks at it
