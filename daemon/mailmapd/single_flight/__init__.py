"""Single flight: equal questions in the air share one answer.

A flight is a task for one key. Whoever asks while it is in the air joins it; `forget` cuts it loose, so that the next to ask starts a new
one and the old one knows that its answer is no longer wanted for keeping (a flush must not be undone by a query already on its way).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """The flights in the air, by key. A flight's coroutine must return its failures, not raise them."""

    def __init__(self) -> None:
        self._flights: dict[bytes, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._flights)

    def find(self, key: bytes) -> asyncio.Task[T] | None:
        """Return the flight in the air for the key, if there is one."""
        return self._flights.get(key)

    def start(self, key: bytes, fetch: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Start the flight for a key that has none."""
        task = asyncio.get_running_loop().create_task(fetch())
        self._flights[key] = task
        task.add_done_callback(lambda done: self._landed(key, done))
        return task

    def wanted(self, key: bytes) -> bool:
        """Return whether the running task is still the key's flight; asked by the flight itself before it keeps its answer."""
        return self._flights.get(key) is asyncio.current_task()

    def forget(self, key: bytes) -> None:
        """Cut the key's flight loose."""
        self._flights.pop(key, None)

    def forget_all(self) -> None:
        """Cut every flight loose."""
        self._flights.clear()

    def _landed(self, key: bytes, task: asyncio.Task[T]) -> None:
        if self._flights.get(key) is task:
            del self._flights[key]
