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


class _Row:
    """Those who wait, by peer: each peer's own one after the other, and the peers in turn."""

    def __init__(self) -> None:
        self._waiting: dict[object, deque[Turn]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, turn: Turn, peer: object) -> None:
        self._waiting.setdefault(peer, deque()).append(turn)

    def next(self) -> Turn:
        peer = next(iter(self._waiting))
        own = self._waiting.pop(peer)
        turn = own.popleft()
        if own:
            self._waiting[peer] = own
        return turn

    def clear(self) -> None:
        self._waiting.clear()


class Turns:
    """Gives at most `rate` turns a second, after `burst` at once.

    Who comes for the first time goes first, but never twice before one who waits to ask again; and nobody twice before
    another peer.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1.0 / rate
        self._credit = (burst - 1) * self._interval
        self._due = float("-inf")
        self._first = _Row()
        self._again = _Row()
        self._was_first = False
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, turn: Turn, *, first: bool, peer: object = None) -> None:
        """Call `turn` as soon as it may be, for a client of `peer`."""
        (self._first if first else self._again).add(turn, peer)
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
            self._was_first = bool(self._first) and not (self._was_first and self._again)
            (self._first if self._was_first else self._again).next()()
