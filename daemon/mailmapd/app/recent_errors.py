"""Recent errors: the last warnings and errors of the log, for the status page."""

from __future__ import annotations

import logging
from collections import deque
from typing import NamedTuple

from mailmapd.model.legible import legible

KEPT = 50  # lines


class RecentError(NamedTuple):
    """One line of the log: when (seconds since the epoch), how bad, and what."""

    time: float
    level: str
    message: str


class RecentErrors(logging.Handler):
    """A handler that keeps the last lines of level warning and above, the newest first in `lines`."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._kept: deque[RecentError] = deque(maxlen=KEPT)

    @property
    def lines(self) -> list[RecentError]:
        """Return the lines kept, the newest first."""
        return list(reversed(self._kept))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._kept.append(
            RecentError(record.created, record.levelname.lower(), legible(record.getMessage()))
        )
