"""Steady traffic for outage tests: socketmap lookups at a fixed rate over many connections, every answer checked and kept with its latency.

Half of the connections ask keys that the daemon has in memory, the other half keys that it has never seen; a connection waits for its
answer before it asks again. A connection that the server closes is opened again and its lookup asked once more. Postfix does both.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Self

READ_LIMIT = 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """One lookup: when it was asked (monotonic seconds), whether its key was known to be in memory, how it ended and how long it took.

    `status` is the server's word, ``WRONG`` for OK with another value than the right one, or ``LOST`` when the connection ended twice.
    """

    asked: float
    cached: bool
    status: str
    seconds: float


class Traffic:
    """Runs in a thread of its own from `with` to its end; `samples` may be read at any time.

    Keys are ``user<number>@example.com``; the right value comes from `value_of`. The first `hot` numbers are those in memory.
    """

    def __init__(
        self,
        path: str,
        name: str,
        value_of: Callable[[int], bytes],
        *,
        hot: int = 500,
        connections: int = 50,
        rate: float = 2000.0,
    ) -> None:
        self.samples: list[Sample] = []
        self._path = path
        self._name = name.encode()
        self._value_of = value_of
        self._hot = hot
        self._connections = connections
        self._pause = connections / rate
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._fresh: Iterator[int] = count(hot)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()

    def since(self, moment: float, until: float = float("inf")) -> list[Sample]:
        """Return the lookups asked from one moment to another."""
        return [sample for sample in self.samples if moment <= sample.asked < until]

    def _run(self) -> None:
        with asyncio.Runner(debug=False) as runner:
            runner.run(self._all())

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._connections):
                group.create_task(self._client(number))

    async def _client(self, number: int) -> None:
        cached = number % 2 == 0
        user = number
        stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        await asyncio.sleep(self._pause * number / self._connections)
        due = time.monotonic()
        while not self._stopping.is_set():
            user = (user + 7) % self._hot if cached else next(self._fresh)
            asked = time.monotonic()
            status, stream = await self._ask(stream, user)
            self.samples.append(Sample(asked, cached, status, time.monotonic() - asked))
            due = max(due + self._pause, time.monotonic() - self._pause)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        if stream is not None:
            stream[1].close()

    async def _ask(
        self, stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None, user: int
    ) -> tuple[str, tuple[asyncio.StreamReader, asyncio.StreamWriter] | None]:
        """Ask once; once more over a new connection when the server has closed the one in use."""
        key = b"%b user%d@example.com" % (self._name, user)
        for fresh in (stream is None, True):
            try:
                if stream is None or fresh:
                    stream = await asyncio.open_unix_connection(self._path, limit=READ_LIMIT)
                stream[1].write(b"%d:%b," % (len(key), key))
                size = await stream[0].readuntil(b":")
                reply = await stream[0].readexactly(int(size[:-1]) + 1)
            except (OSError, asyncio.IncompleteReadError):
                if stream is not None:
                    stream[1].close()
                stream = None
                continue
            status, _, value = reply[:-1].partition(b" ")
            if status == b"OK" and value != self._value_of(user):
                return "WRONG", stream
            return status.decode(), stream
        return "LOST", None


def percentile(samples: list[Sample], share: float) -> float:
    """Return the latency in seconds that the given share of the lookups did not exceed."""
    latencies = sorted(sample.seconds for sample in samples)
    return latencies[min(len(latencies) - 1, int(len(latencies) * share))]


def statuses(samples: list[Sample]) -> Counter[str]:
    """Count the lookups by how they ended."""
    return Counter(sample.status for sample in samples)
