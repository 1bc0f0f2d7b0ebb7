"""Scheduling priority: what is measured should not wait for whatever else the machine does."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

MEASURED = -20  # nice(1) value of what is measured and of what measures it
NEEDED = -10  # of servers that these wait for


def put_ahead(identity: int, nice: int = MEASURED) -> None:
    """Let a process or thread (its kernel id), with its whole session where the kernel groups by
    sessions, run before others.

    Only root may do that; elsewhere measurements need a quiet machine.
    """
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, identity, nice)
    with suppress(OSError):  # a kernel without sched_autogroup has no such file
        Path(f"/proc/{identity}/autogroup").write_text(str(nice))


def put_first(identity: int, place: int = 1) -> None:
    """Let a process or thread run whenever it can, before all that have a lower place or none (sched(7)).

    It has to be idle most of the time: the kernel does not let it have a whole second. Only root may do that.
    """
    with suppress(PermissionError):
        os.sched_setscheduler(identity, os.SCHED_FIFO, os.sched_param(place))
