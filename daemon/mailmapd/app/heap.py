"""Giving large blocks of memory back to the system.

A cache's table is copied whenever it fills up, and tables are megabytes. glibc takes the first such
block from the system and returns it when it is freed, but then raises its idea of "large", keeps
later ones on its heap, and the process grows by one block after another until the holes between
them suffice.
"""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE = 512 * 1024  # bytes


def return_large_blocks() -> None:
    """Have every large block returned to the system as soon as it is freed, see mallopt(3).

    Other C libraries than glibc do as they do.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has none, and returns them by itself
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE)


def trim_heap() -> None:
    """Return what is free on the heap to the system, see malloc_trim(3). It takes a while: call it in a thread."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:  # only glibc keeps it
        return
    trim(0)
