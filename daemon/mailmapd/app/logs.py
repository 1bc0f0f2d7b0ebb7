"""The log: one line per event worth waking for, on stderr.

plain      "LEVEL message", for terminals
journald   the same with the priority prefix of sd-daemon(3), which journald turns into the entry's priority
json       one object per line: time, level, logger, message
auto       journald when stderr is connected to the journal, else plain
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time

from mailmapd.app.log_lines import LineFormatter
from mailmapd.app.recent_errors import RecentErrors
from mailmapd.app.repeats import Repeats
from mailmapd.config.schema import LogSection

_OURS = "mailmapd"  # what the names of our own loggers begin with

_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


class _JournaldFormatter(LineFormatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


class _JsonFormatter(LineFormatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": super().format(record),
        }
        return json.dumps(entry, ensure_ascii=False)


class Logs(logging.Handler):
    """The log of this process, as the root's one handler. `recent` keeps its last warnings and errors."""

    def __init__(self, settings: LogSection) -> None:
        super().__init__()
        self.recent = RecentErrors()
        self._stream = logging.StreamHandler(sys.stderr)
        self._repeats = Repeats(self.emit)
        self.addFilter(self._repeats)
        logging.basicConfig(handlers=[self], force=True)
        self.apply(settings)

    def apply(self, settings: LogSection) -> None:
        """Write as configured from now on."""
        self._stream.setFormatter(_formatter(settings.format))
        level = settings.level.upper()
        logging.getLogger(_OURS).setLevel(level)
        # Libraries write what they are given: SQL with addresses, rows with hashes, commands with passwords
        logging.getLogger().setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))

    def write_repeats(self, *, all_of_them: bool = False) -> None:
        """Write how often lines were repeated; to be called now and then, and for all of them at the end."""
        self._repeats.flush(everything=all_of_them)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, and keep it if it tells of trouble."""
        try:
            self._stream.handle(record)
            if record.levelno >= self.recent.level:
                self.recent.handle(record)
        except Exception:  # noqa: BLE001 (who writes a line must not fail because of it; stderr says why)
            self.handleError(record)


def _formatter(chosen: str) -> logging.Formatter:
    if chosen == "auto":
        chosen = "journald" if _stderr_is_journal() else "plain"
    if chosen == "json":
        return _JsonFormatter("%(message)s")
    if chosen == "journald":
        return _JournaldFormatter("%(message)s")
    return LineFormatter("%(levelname)s %(message)s")


def _stderr_is_journal() -> bool:
    """Return whether stderr is the journal that systemd connected, see JOURNAL_STREAM in systemd.exec(5)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    status = os.fstat(sys.stderr.fileno())
    return (device, inode) == (str(status.st_dev), str(status.st_ino))
