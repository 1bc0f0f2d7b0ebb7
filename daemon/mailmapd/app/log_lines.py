"""Lines of a log: a message is one of them, whatever it holds."""

from __future__ import annotations

import logging
from typing import Any

from mailmapd.model.legible import legible


class LineFormatter(logging.Formatter):
    """Writes a message as one line, and below it a traceback if there is one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """Return the line."""
        record.message = legible(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 (logging's name)
        """Return the lines of a traceback."""
        return legible(super().formatException(ei), keep="\n")
