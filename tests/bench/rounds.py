"""Interleaved rounds: each contender once, then each once more, so that a machine that slows down
slows all of them down.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")

Rounds = dict[str, list[T]]
"""What each contender measured, round by round."""


def interleave(stakes: Iterable[S], contenders: Mapping[str, Callable[[S], T]]) -> Rounds[T]:
    """Run every contender once per round, each with the stake of the round, such as a seed that no
    round before has had.

    Of three or more, another one begins each round, so that none always has the same one before it. None measures
    twice in a row: it would find the processor's caches as it has left them.
    """
    rounds: Rounds[T] = {name: [] for name in contenders}
    order = list(contenders.items())
    for stake in stakes:
        for name, measure in order:
            rounds[name].append(measure(stake))
        if len(order) > 2:
            order.append(order.pop(0))
    return rounds


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the rounds' own ratios: what the machine did between two rounds cancels out."""
    return statistics.median([own / other for own, other in zip(ours, theirs, strict=True)])
