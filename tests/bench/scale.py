"""How much is measured: the full run for a table worth keeping, the quick one for a look at the ratios."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Sizes and times of one run. Times are seconds of one measurement, of which each contender gets `repetitions`."""

    name: str
    repetitions: int
    seconds: float
    entries: int
    """Entries in the cache for the rows about memory."""
    pause_seconds: float
    """How long the longest pause is looked for."""
    mailboxes: int
    postmap_keys: int
    recipient_seconds: float
    recipients: int
    """Different recipients that the SMTP sessions name."""
    day_recipients: int
    growth: tuple[int, ...]
    """Entries in the cache, for what a lookup and an entry cost as the cache grows."""
    connections: tuple[int, ...]
    login_seconds: float
    users: int
    """Different users that log in."""
    starts: int


FULL = Scale(
    name="full",
    repetitions=5,
    seconds=1.0,
    entries=1_000_000,
    pause_seconds=60.0,
    mailboxes=100_000,
    postmap_keys=100_000,
    recipient_seconds=1.0,
    recipients=1_000,
    day_recipients=500_000,
    growth=(10_000, 100_000, 1_000_000, 5_000_000),
    connections=(1, 16, 256, 4096),
    login_seconds=0.7,
    users=500,
    starts=7,
)

QUICK = Scale(
    name="quick",
    repetitions=3,
    seconds=0.2,
    entries=100_000,
    pause_seconds=2.0,
    mailboxes=5_000,
    postmap_keys=4_000,
    recipient_seconds=0.2,
    recipients=100,
    day_recipients=20_000,
    growth=(10_000, 100_000),
    connections=(1, 16, 256),
    login_seconds=0.2,
    users=50,
    starts=3,
)
