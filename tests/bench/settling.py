"""Settling: a cache is warm when what a lookup costs no longer falls, not after a number of lookups
that somebody thought of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

WINDOW = 4
"""Chunks that are compared with as many before them."""
TOLERANCE = 0.02
"""The part by which the cost may still fall between two windows: what chunks differ by when nothing changes."""
PATIENCE = 24
"""Chunks after which it is not waited for any longer."""


def settled(costs: Sequence[float]) -> bool:
    """Return whether the cost of the last chunks is that of those before them, but for noise."""
    if len(costs) < 2 * WINDOW:
        return False
    before, now = median(costs[-2 * WINDOW : -WINDOW]), median(costs[-WINDOW:])
    return before - now <= TOLERANCE * before


def settle(asks: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Ask all contenders for chunk after chunk until the costs of all have settled, or patience ends.

    All are asked for as many, so that none has learnt more than another. Return what each chunk cost per lookup.
    """
    costs: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(PATIENCE):
        for name, ask in asks.items():
            costs[name].append(ask())
        if all(settled(known) for known in costs.values()):
            break
    return costs
