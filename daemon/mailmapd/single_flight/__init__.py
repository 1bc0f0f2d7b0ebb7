"""Single flight: equal questions in the air share one answer.

A flight is one question on its way. Whoever asks the same while it is in the air joins it; `forget`
cuts it loose, so that the next to ask starts a new one and the old one is known to be unwanted when
it lands (a flush must not be undone by a query already on its way).

Flights are plain lists of callbacks, not futures: whoever waits is told in the very callback that
read the answer, without a turn of the event loop for each step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)


class Flight(list[Callable[[T], None]]):
    """One question on its way: whom to call with its answer.

    It is a list, not an object that has one, because one is made for each miss.
    """

    __slots__ = ()

    join = list[Callable[[T], None]].append
    """Have `done` called with the answer."""

    def land(self, answer: T) -> None:
        """Tell everybody who has joined, once.

        What goes wrong with one of them is logged and does not keep it from the others.
        """
        waiting = self[:]
        self.clear()
        for done in waiting:
            try:
                done(answer)
            except Exception:
                log.exception("an answer could not be passed on: a defect of mailmapd")


class SingleFlight(Generic[T]):
    """The flights in the air, by key."""

    def __init__(self) -> None:
        self._flights: dict[bytes, Flight[T]] = {}
        # Taken over, not wrapped: it runs once for every miss
        self.find = self._flights.get
        """Return the flight in the air for the key, or None."""

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._flights)

    def start(self, key: bytes) -> Flight[T]:
        """Start the flight for a key that has none."""
        flight = self._flights[key] = Flight()
        return flight

    def end(self, key: bytes, flight: Flight[T]) -> bool:
        """Take a flight out of the air before it lands; return whether its answer is still wanted for keeping."""
        if self._flights.get(key) is not flight:
            return False
        del self._flights[key]
        return True

    def forget(self, key: bytes) -> None:
        """Cut the key's flight loose."""
        self._flights.pop(key, None)

    def forget_all(self) -> None:
        """Cut every flight loose."""
        self._flights.clear()
