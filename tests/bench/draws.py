"""Draws: the seeds of one run. Each measurement draws its keys anew, and the run's own seed repeats them all.

A sequence that is asked twice is answered from remembered replies the second time, which says how fast those are and
nothing about a host. So no seed is handed out twice, and what one row draws does not depend on which other rows are
measured.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

BITS = 32
"""Size of a seed: short enough to be typed again."""


class Draws:
    """Everything random of a run, from one seed; `purpose` names who draws."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._drawn: Counter[str] = Counter()

    @classmethod
    def anew(cls) -> Draws:
        """Return those of a run that nobody has seen before."""
        return cls(random.SystemRandom().getrandbits(BITS))

    def fresh(self, purpose: str) -> int:
        """Return a seed that this run has not used yet."""
        self._drawn[purpose] += 1
        return self._chance(f"{purpose} {self._drawn[purpose]}").getrandbits(BITS)

    def chance(self, purpose: str) -> random.Random:
        """Return a source of random choices that this run has not used yet."""
        return random.Random(self.fresh(purpose))

    def shuffled(self, purpose: str, things: Iterable[T]) -> list[T]:
        """Return the things in an order that nobody chose."""
        mixed = list(things)
        self.chance(purpose).shuffle(mixed)
        return mixed

    def _chance(self, text: str) -> random.Random:
        return random.Random(f"{self.seed} {text}")
