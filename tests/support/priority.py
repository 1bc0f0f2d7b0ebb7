"""Scheduling priority: what is measured should not wait for whatever else the machine does."""

from __future__ import annotations

import os
from contextlib import suppress


def put_ahead(identity: int) -> None:
    """Let a process or thread (its kernel id) run before all others, which only root may; elsewhere measurements need a quiet machine."""
    with suppress(PermissionError):
        os.sched_setscheduler(identity, os.SCHED_RR, os.sched_param(os.sched_get_priority_min(os.SCHED_RR)))
