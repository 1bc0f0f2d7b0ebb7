"""Scheduling priority: what is measured should not wait for whatever else the machine does."""

from __future__ import annotations

import os
from contextlib import suppress

MEASURED = 2  # real-time priority of what is measured and of what measures it
NEEDED = 1  # of servers that these wait for


def put_ahead(identity: int, priority: int = MEASURED) -> None:
    """Let a process or thread (its kernel id) run before all others, which only root may; elsewhere measurements need a quiet machine."""
    with suppress(PermissionError):
        os.sched_setscheduler(identity, os.SCHED_RR, os.sched_param(priority))
