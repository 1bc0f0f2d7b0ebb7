"""Backing off: the pauses between tries of a feed that is lost again and again."""

from __future__ import annotations

from collections.abc import Callable

FIRST = 1.0  # seconds of the first pause; each is twice as long as the one before …
MOST = 8.0  # … up to these
STEADY = 10.0  # seconds of being alive after which it was no flapping


class Backoff:
    """Says how long to wait. `begun` is told when a try has succeeded."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pause = FIRST
        self._since: float | None = None

    def begun(self) -> None:
        """Note that the feed is alive from now on."""
        self._since = self._clock()

    def pause(self) -> float:
        """Return for how many seconds to wait now that it is lost, or could not begin."""
        since, self._since = self._since, None
        if since is not None and self._clock() - since >= STEADY:
            self._pause = FIRST
        pause, self._pause = self._pause, min(self._pause * 2, MOST)
        return pause
