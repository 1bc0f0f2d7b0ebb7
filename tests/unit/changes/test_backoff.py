from __future__ import annotations

from mailmapd.changes.backoff import FIRST, MOST, STEADY, Backoff
from support.clock import FakeClock


def test_flapping() -> None:
    """A feed that begins and is lost at once, for ever, waits twice as long each time, up to some seconds."""
    clock = FakeClock()
    backoff = Backoff(clock)
    pauses = []
    for _ in range(6):
        backoff.begun()
        clock.now += STEADY / 2
        pauses.append(backoff.pause())
    assert pauses == [FIRST, 2 * FIRST, 4 * FIRST, MOST, MOST, MOST]


def test_never_begun() -> None:
    """So does one that never begins, however long each try takes."""
    clock = FakeClock()
    backoff = Backoff(clock)
    pauses = []
    for _ in range(4):
        clock.now += STEADY
        pauses.append(backoff.pause())
    assert pauses == [FIRST, 2 * FIRST, 4 * FIRST, MOST]


def test_steady_again() -> None:
    """After a time of being alive the first pause is short again."""
    clock = FakeClock()
    backoff = Backoff(clock)
    for _ in range(5):
        backoff.pause()
    backoff.begun()
    clock.now += STEADY
    assert backoff.pause() == FIRST
    assert backoff.pause() == 2 * FIRST
