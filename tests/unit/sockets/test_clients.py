from __future__ import annotations

import asyncio
import logging

import pytest

from mailmapd.sockets.clients import SWEEP_INTERVAL, Clients
from support.clock import FakeClock
from support.polling import until

log = logging.getLogger(__name__)


class Someone:
    """A client that has been here since a moment."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.aborted = False

    def abort(self) -> None:
        """Note it."""
        self.aborted = True


def clients(clock: FakeClock, most: int = 10) -> Clients[Someone]:
    """Return clients who may stay for a minute."""
    return Clients(
        "l",
        log,
        most=lambda: most,
        overdue=lambda client, now: "stays" if now - client.since > 60.0 else "",
        clock=clock,
    )


def test_limit(caplog: pytest.LogCaptureFixture) -> None:
    """That places are scarce is said once, and once more when there was room meanwhile."""
    held = clients(FakeClock())
    everybody = [Someone(0.0) for _ in range(10)]
    for client in everybody:
        assert held.have_room
        held.add(client)
    assert not held.have_room
    held.note_full()
    held.remove(everybody[0])
    held.add(everybody[0])
    held.note_full()
    assert caplog.messages == [
        "listener l: 10 connections, the limit; more are refused (raise limits.max_connections)"
    ]
    for client in everybody[:2]:
        held.remove(client)
    held.note_full()
    assert len(caplog.messages) == 2


def test_overdue(caplog: pytest.LogCaptureFixture) -> None:
    """A look ends the connections of those who take too long, and of nobody else, and says what for."""
    clock = FakeClock()
    held = clients(clock)
    first, second = Someone(0.0), Someone(30.0)
    held.add(first)
    held.add(second)
    clock.now = 61.0
    held.sweep()
    assert first.aborted
    assert not second.aborted
    assert caplog.messages == ["listener l: a client stays; connection closed"]


async def test_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other from `start` until `stop`."""
    monkeypatch.setattr("mailmapd.sockets.clients.SWEEP_INTERVAL", 0.001)
    assert SWEEP_INTERVAL >= 1.0
    clock = FakeClock()
    held = clients(clock)
    held.start()
    clock.now = 100.0
    for _ in range(2):
        held.add(client := Someone(0.0))
        await until(lambda client=client: client.aborted)  # type: ignore[misc]
        held.remove(client)
    held.stop()
    held.add(client := Someone(0.0))
    await asyncio.sleep(0.01)
    assert not client.aborted
