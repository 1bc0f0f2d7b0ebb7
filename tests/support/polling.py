"""Waiting, inside an event loop, for what a server or a task will do soon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from support.process import POLL_SECONDS, ServerFailed


async def until(
    condition: Callable[[], bool], what: str = "the condition never held", seconds: float = 30.0
) -> None:
    """Let the loop run until the condition holds; fail with `what` when it never does."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  # nobody sets an event for what happens elsewhere
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise ServerFailed(f"waited {seconds:.0f} s in vain: {what}") from None
