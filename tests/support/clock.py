"""A clock for tests: time passes when the test says so."""

from __future__ import annotations


class FakeClock:
    """Call it for the time; set `now` to change it. Seconds, from 0."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now
