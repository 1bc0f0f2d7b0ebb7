"""Flow control: how much of one connection may be on its way at once, in either direction.

A client that does not take its replies gets no more of them. One that sends faster than its queries
can be answered is not read from while too much of what it sent is held.
"""

from __future__ import annotations

import asyncio

READ_AHEAD = 128 * 1024
"""Bytes taken from a client whose earlier query still waits, before reading pauses."""

WRITE_AHEAD = 64 * 1024
"""Bytes of replies kept for a client that does not read them, before answering pauses."""


class FlowControl:
    """The two directions of one transport. `taking` says whether the client takes its replies."""

    def __init__(self, transport: asyncio.Transport) -> None:
        transport.set_write_buffer_limits(high=WRITE_AHEAD)
        self.taking = True
        self._transport = transport
        self._taken = asyncio.Event()
        self._held = 0  # bytes of queries that cannot be answered yet
        self._reading = True

    def pause_writing(self) -> None:
        """Note that the client does not take its replies."""
        self.taking = False
        self._taken.clear()

    def resume_writing(self) -> None:
        """Note that the client takes its replies again, or is gone."""
        self.taking = True
        self._taken.set()

    async def taken(self) -> None:
        """Wait until the client has taken most of its replies, or is gone."""
        if not self.taking:
            await self._taken.wait()

    def hold(self, size: int) -> None:
        """Count bytes that came while an earlier query waits; stop reading when they are too many."""
        self._held += size
        if self._reading and (self._held > READ_AHEAD or not self.taking):
            self._reading = False
            self._transport.pause_reading()

    def release(self) -> None:
        """Read again: everything that was held is answered."""
        self._held = 0
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()
