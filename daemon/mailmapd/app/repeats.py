"""Repeats: a line that comes again and again is written a few times, then counted and summed up.

    WARNING listener socketmap: protocol error, connection closed: …
    WARNING listener socketmap: protocol error, connection closed: … (… 1 234 more like this in 60 s)

Lines are alike when they come from the same place: one logger, one level and one template. What is
different in them (a map, a host) may be lost for the time of a flood, and only then. Tracebacks are
alike when the same kind of error was raised at the same place, whatever the text: that of asyncio
holds addresses in memory, and is never the same twice.
"""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from mailmapd.stats.figures import as_count

BURST = 10  # alike lines that are written one by one …
PERIOD = 60.0  # … within this number of seconds

_IN_MEMORY = re.compile(r"0x[0-9a-f]+")

_Kind = tuple[str, int, str]


@dataclass
class _Count:
    """The lines of one kind in the present period."""

    since: float
    seen: int = 0
    last: logging.LogRecord | None = None


class Repeats(logging.Filter):
    """A filter for the root's handlers.

    `emit` writes the counts, past the filter. `flush` must be called now and then.
    """

    def __init__(
        self, emit: Callable[[logging.LogRecord], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._emit = emit
        self._clock = clock
        self._counts: dict[_Kind, _Count] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is to be written."""
        now = self._clock()
        kind = (record.name, record.levelno, _what(record))
        count = self._counts.get(kind)
        if count is not None and now - count.since >= PERIOD:
            self._end(kind, count)
            count = None
        if count is None:
            count = self._counts[kind] = _Count(now)
        count.seen += 1
        if count.seen <= BURST:
            return True
        count.last = logging.makeLogRecord(record.__dict__)
        count.last.exc_info = None  # it would keep every frame of the traceback
        return False

    def flush(self, *, everything: bool = False) -> None:
        """Write the counts of the periods that are over, or (at the end of the process) of all."""
        now = self._clock()
        for kind, count in list(self._counts.items()):
            if everything or now - count.since >= PERIOD:
                self._end(kind, count)

    def _end(self, kind: _Kind, count: _Count) -> None:
        del self._counts[kind]
        if count.last is None:
            return
        summary = logging.makeLogRecord(count.last.__dict__)
        more, seconds = as_count(count.seen - BURST), self._clock() - count.since
        summary.msg, summary.args = (
            f"{count.last.getMessage()} (… {more} more like this in {seconds:.0f} s)",
            (),
        )
        summary.exc_info = summary.exc_text = None
        self._emit(summary)


def _what(record: logging.LogRecord) -> str:
    """Return what a line is about, the same for all that are alike."""
    error, trace = record.exc_info[1:] if record.exc_info else (None, None)
    if error is None:
        return _IN_MEMORY.sub("0x", str(record.msg))
    where = ""
    for frame, line in traceback.walk_tb(trace):
        where = f"{frame.f_code.co_filename}:{line}"
    return f"{type(error).__qualname__} {where}"
