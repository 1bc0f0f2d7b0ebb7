"""Defects that nothing else has caught, and stops that do not come to their end: what becomes of the process.

A defect ends what it happened in, and the process goes on. Without memory nothing is sure any more:
the process ends at once, and the service manager starts it again.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
from typing import Any

log = logging.getLogger(__name__)

OUT_OF_MEMORY = 71  # exit status, EX_OSERR of sysexits.h
STOP_GRACE = 10.0  # seconds that the end may take beyond `limits.drain_timeout`, below the unit's TimeoutStopSec


def watch_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Take care of exceptions that reach the event loop."""
    loop.set_exception_handler(_handle)


def _handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, MemoryError):
        log.critical("out of memory; the process ends")
        os._exit(OUT_OF_MEMORY)
    # The text is asyncio's and may name what it happened in; the kind of the error tells lines apart
    log.error("a defect of mailmapd: %s", context.get("message"), exc_info=error)


def end_within(seconds: float) -> None:
    """End the process after `seconds`, unless it has ended by itself, with a traceback on stderr.

    A thread of C does it, which waits for no lock and no loop.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)
