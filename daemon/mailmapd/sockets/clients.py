"""The clients of one listener: how many there may be, and who takes too long.

Every kind of listener has one of these. Beyond the limit clients are refused, which the log says
once, until there is room again; every few seconds a look ends the connections of those who make us
wait for longer than `[limits]` allows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

SWEEP_INTERVAL = 5.0  # seconds between looks for clients that take too long


class Client(Protocol):
    """A client, as the limits see it."""

    def abort(self) -> None:
        """End the connection at once."""
        ...


C = TypeVar("C", bound=Client)


class Clients(Generic[C]):
    """The clients of the listener `name`, in `all`.

    `most` is asked for at each use: a reload may change it. `overdue` returns what a client takes
    too long for at a moment, or an empty text. Lines go to `log`, those about a client with `level`.
    """

    def __init__(
        self,
        name: str,
        log: logging.Logger,
        *,
        most: Callable[[], int],
        overdue: Callable[[C, float], str],
        clock: Callable[[], float],
        level: int = logging.WARNING,
        beyond: str = "more are refused (raise limits.max_connections)",
        roomy: float = 0.9,
    ) -> None:
        self.all: set[C] = set()
        self._name = name
        self._log = log
        self._most = most
        self._overdue = overdue
        self._clock = clock
        self._level = level
        self._beyond = beyond
        self._roomy = roomy
        self._full = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def have_room(self) -> bool:
        """Return whether there may be one more."""
        return len(self.all) < self._most()

    def note_full(self) -> None:
        """Say that places are scarce, once until less than the `roomy` part of them is taken."""
        if not self._full:
            self._full = True
            self._log.error(
                "listener %s: %d connections, the limit; %s",
                self._name,
                len(self.all),
                self._beyond,
            )

    def add(self, client: C) -> None:
        """Let a client in."""
        self.all.add(client)

    def remove(self, client: C) -> None:
        """Forget a client that is gone."""
        self.all.discard(client)
        if self._full and len(self.all) < self._most() * self._roomy:
            self._full = False

    def start(self) -> None:
        """Look for clients that take too long from now on, until `stop`."""
        self._timer = asyncio.get_running_loop().call_later(SWEEP_INTERVAL, self._sweep_again)

    def stop(self) -> None:
        """Look for nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def sweep(self) -> None:
        """End the connections of clients that take too long."""
        now = self._clock()
        for client in list(self.all):
            reason = self._overdue(client, now)
            if reason:
                self._log.log(
                    self._level,
                    "listener %s: a client %s; connection closed",
                    self._name,
                    reason,
                )
                client.abort()

    def _sweep_again(self) -> None:
        self.sweep()
        self.start()
