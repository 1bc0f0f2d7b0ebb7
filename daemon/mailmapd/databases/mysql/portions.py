"""Portions: what a server sends at one go is read a little at a time, and lookups are answered in between.

The event loop hands over up to 256 KiB, again and again as long as more is there: a hundred thousand rows of one byte.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

AT_ONCE = 8192
"""Bytes that are read without a pause: more than nearly every reply has."""

_PIECE = 4096  # bytes of more than that which are read before the clock is looked at
_TURN = 0.0005  # seconds of reading after which others have their turn


class Portions:
    """Hands what comes on a transport to `take`, which returns whether it wants more of it.

    `waiting` is what has come and was not taken yet. While `hold` is in force, nothing is taken, and the server is
    held up.
    """

    __slots__ = ("_begun", "_held", "_take", "_transport", "waiting")

    def __init__(self, transport: asyncio.Transport, take: Callable[[bytes], bool]) -> None:
        self._transport = transport
        self._take = take
        self.waiting: deque[bytes] = deque()
        self._begun = False  # another turn comes
        self._held = False

    def receive_data(self, data: bytes) -> None:
        """Take short data at once, and long data in turns, while the server is held up."""
        if len(data) <= AT_ONCE and not self.waiting:
            self._take(data)
            return
        self.waiting += [data[at : at + _PIECE] for at in range(0, len(data), _PIECE)]
        self._transport.pause_reading()
        self._begin()

    def hold(self) -> None:
        """Take nothing more until `release`."""
        self._held = True
        self._transport.pause_reading()

    def release(self) -> None:
        """Go on."""
        self._held = False
        if self.waiting:
            self._begin()
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    def _begin(self) -> None:
        if not self._begun and not self._held:
            self._begun = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._begun = False
        pieces, transport = self.waiting, self._transport
        deadline = time.monotonic() + _TURN
        try:
            while pieces and not self._held and not transport.is_closing():
                if not self._take(pieces.popleft()):
                    pieces.clear()
                elif time.monotonic() >= deadline:
                    break
        except BaseException:
            transport.abort()  # nobody has to wait for what is not read any more
            raise
        if transport.is_closing():
            pieces.clear()
        elif pieces:
            self._begin()
        elif not self._held:
            transport.resume_reading()
