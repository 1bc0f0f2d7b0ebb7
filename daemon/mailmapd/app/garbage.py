"""Keeping the garbage collector away from what it need not look at.

A cache of a million entries is one object to the collector, but walking through it takes tens of
milliseconds, in which nobody is answered. What is frozen is not walked through again, and goes on
growing outside the collector's sight; entries hold bytes, which are freed without it. Frozen
garbage that refers to itself is never freed, so nothing is frozen but when caches have been made.
"""

from __future__ import annotations

import gc

_SELDOM = 1000  # looks at what is newer, between two at everything, each of which takes up to ten milliseconds


def look_for_none_yet() -> None:
    """Leave garbage alone while the program starts: nearly all that it imports and makes then will stay."""
    gc.disable()


def look_again() -> None:
    """Look for garbage from now on: as ever among what is new, and seldom among what has stayed for a while."""
    gc.set_threshold(*gc.get_threshold()[:2], _SELDOM)
    gc.enable()


def spare_what_stays() -> None:
    """Free recent garbage, and leave all else out of later collections: the code and the caches.

    Call it when caches have been made.
    """
    gc.collect(1)
    gc.freeze()


def free_what_was_left() -> None:
    """Free garbage among what is left out of collections, too: tens of milliseconds with a million entries."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
