"""Turns: strangers' requests and connections one after the other, at a pace that lookups do not feel.

A request costs the loop a fraction of a millisecond. Answered as fast as they come, the requests of
one client would keep every lookup waiting; at a steady pace they take a few hundredths of the time,
whatever is sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

Turn = Callable[[], None]
"""Called when the turn comes."""


class Turns:
    """Gives at most `rate` turns a second, after `burst` at once. Who comes for the first time goes first."""

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1.0 / rate
        self._credit = (burst - 1) * self._interval
        self._due = float("-inf")
        self._first: deque[Turn] = deque()
        self._again: deque[Turn] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, turn: Turn, *, first: bool) -> None:
        """Call `turn` as soon as it may be."""
        (self._first if first else self._again).append(turn)
        if self._timer is None:
            self._give()

    def close(self) -> None:
        """Give no more turns."""
        self._first.clear()
        self._again.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._first or self._again:
            now = loop.time()
            self._due = max(self._due, now - self._credit)
            if self._due > now:
                self._timer = loop.call_later(self._due - now, self._give)
                return
            self._due += self._interval
            (self._first or self._again).popleft()()
