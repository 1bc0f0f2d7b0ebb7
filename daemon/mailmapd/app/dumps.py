"""Keeping memory, which holds password hashes, out of core files and from other processes of the daemon's user."""

from __future__ import annotations

import ctypes

_PR_SET_DUMPABLE = 4  # prctl(2)


def leave_no_dump() -> None:
    """Have the kernel write no core file of this process, and let nobody but root attach to it or read its memory."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
