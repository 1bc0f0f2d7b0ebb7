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

from mailmapd.config.schema import Log

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _JournaldFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": super().format(record),
        }
        return json.dumps(entry, ensure_ascii=False)


def set_up_logging(settings: Log) -> None:
    """Send the log to stderr as configured."""
    chosen = settings.format
    if chosen == "auto":
        chosen = "journald" if _stderr_is_journal() else "plain"
    handler = logging.StreamHandler(sys.stderr)
    if chosen == "json":
        handler.setFormatter(_JsonFormatter("%(message)s"))
    elif chosen == "journald":
        handler.setFormatter(_JournaldFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)


def _stderr_is_journal() -> bool:
    """Return whether stderr is the stream that systemd connected to the journal, see JOURNAL_STREAM in systemd.exec(5)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    status = os.fstat(sys.stderr.fileno())
    return (device, inode) == (str(status.st_dev), str(status.st_ino))
