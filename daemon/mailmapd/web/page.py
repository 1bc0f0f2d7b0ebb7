"""A page that many may ask for: made at most once a second, in slices, whatever the number of askers.

Who asks gets a page that was begun after the question, so what it shows is never older; who asks
within a second of the page before waits for the rest of that second, together with all others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

INTERVAL = 1.0  # seconds between two beginnings


class Page:
    """`make` gives the page piece by piece; each piece is small enough that a lookup may wait for it.

    `prepare` gets beforehand what must be waited for.
    """

    def __init__(
        self,
        make: Callable[[], Iterator[bytes]],
        interval: float = INTERVAL,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._make = make
        self._interval = interval
        self._prepare = prepare
        self._begun = float("-inf")
        self._coming: asyncio.Task[bytes] | None = None

    async def get(self) -> bytes:
        """Return the next page."""
        if self._coming is None:
            self._coming = asyncio.get_running_loop().create_task(self._render())
        return await asyncio.shield(self._coming)

    async def _render(self) -> bytes:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._begun + self._interval - loop.time()))
        self._begun, self._coming = loop.time(), None
        if self._prepare is not None:
            await self._prepare()
        pieces = []
        for piece in self._make():
            pieces.append(piece)
            await asyncio.sleep(0)  # the lookups' turn
        return b"".join(pieces)
