"""Interleaved rounds: each contender once, then each once more, so that a machine that slows down slows all of them down."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

Rounds = dict[str, list[T]]
"""What each contender measured, round by round."""


def interleave(repetitions: int, contenders: Mapping[str, Callable[[], T]]) -> Rounds[T]:
    """Run every contender once per round, in turn."""
    rounds: Rounds[T] = {name: [] for name in contenders}
    for _ in range(repetitions):
        for name, measure in contenders.items():
            rounds[name].append(measure())
    return rounds


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the rounds' own ratios: what the machine did between two rounds cancels out."""
    return statistics.median([one / other for one, other in zip(ours, theirs, strict=True)])
