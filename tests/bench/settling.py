"""Settling: a cache is warm when what a lookup costs no longer falls, not after a number of lookups that somebody thought of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

WINDOW = 3
"""Chunks that are compared with as many before them."""
TOLERANCE = 0.03
"""The part by which the cost may still fall between two windows: what chunks differ by when nothing changes."""
PATIENCE = 20
"""Chunks after which it is not waited for any longer."""


def settled(costs: Sequence[float]) -> bool:
    """Return whether the cost of the last chunks is that of those before them, but for noise."""
    if len(costs) < 2 * WINDOW:
        return False
    before, now = median(costs[-2 * WINDOW : -WINDOW]), median(costs[-WINDOW:])
    return before - now <= TOLERANCE * before


def settle(ask: Callable[[], float]) -> list[float]:
    """Ask chunk after chunk until the cost has settled, or patience ends; return what each chunk cost per lookup."""
    costs: list[float] = []
    while len(costs) < PATIENCE and not settled(costs):
        costs.append(ask())
    return costs
