"""Steady traffic for outage tests.

Socketmap lookups at a fixed rate over many connections, every answer checked and kept with its
latency.

A quarter of the connections asks keys that are fresh in the daemon's memory, a quarter keys whose
answers there expire quickly, and half of them keys that nobody has asked for long, if ever. A
connection waits for its answer before it asks again. When the server closes one, it is opened again
and the lookup asked once more, as Postfix does. Keys and values are those of `numbered_mail`.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from types import TracebackType
from typing import Self

from support.numbered_mail import USERS, address, mailbox
from support.priority import put_ahead

READ_LIMIT = 2**20

PROMPT = float(os.environ.get("MAILMAPD_PROMPT_SECONDS", "0.25"))
"""Seconds within which 99 of 100 cached keys must be answered: on a crowded machine, far below every deadline.

Scripts/soak, which wants a
quiet one, holds them to the promised 20 ms."""

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Sample:
    """One lookup: when it was asked (monotonic seconds), what kind of key it was, how it ended and how long it took.

    `kind` is ``fresh``, ``expiring`` or ``unseen``. `status` is the server's word, ``WRONG`` for OK
    with a value that is not the right one, or ``LOST`` when the connection ended twice; `reason` is
    what came with any other word than OK.
    """

    asked: float
    kind: str
    status: str
    seconds: float
    reason: bytes = b""

    @property
    def cached(self) -> bool:
        """Tell whether the daemon has, or had, the answer in memory."""
        return self.kind != "unseen"


class Traffic:
    """Runs in a thread of its own from `with` to its end; `samples` may be read at any time.

    The first `hot` users are those in memory: the map ``mailboxes`` keeps them, and so does
    ``expiring``, but not for long. The connections share `kinds` out among them.
    """

    def __init__(
        self,
        path: str,
        *,
        kinds: Sequence[str] = ("fresh", "unseen", "expiring", "unseen"),
        hot: int = 500,
        connections: int = 50,
        rate: float = 2000.0,
    ) -> None:
        self.samples: list[Sample] = []
        self._path = path
        self._kinds = tuple(kinds)
        self._hot = hot
        self._connections = connections
        self._pause = connections / rate
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._unseen: Iterator[int] = cycle(range(hot, USERS))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def since(self, moment: float, until: float = float("inf")) -> list[Sample]:
        """Return the lookups asked from one moment to another."""
        return [sample for sample in self.samples if moment <= sample.asked < until]

    def _run(self) -> None:
        put_ahead(threading.get_native_id())
        with asyncio.Runner(debug=False) as runner:
            runner.run(self._all())

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._connections):
                group.create_task(self._client(number))

    async def _client(self, number: int) -> None:
        kind = self._kinds[number % len(self._kinds)]
        name = b"expiring" if kind == "expiring" else b"mailboxes"
        user = number
        stream: Stream | None = None
        await asyncio.sleep(self._pause * number / self._connections)
        due = time.monotonic()
        while not self._stopping.is_set():
            user = next(self._unseen) if kind == "unseen" else (user + 7) % self._hot
            asked = time.monotonic()
            status, value, stream = await self._ask(stream, name, user)
            self.samples.append(
                Sample(
                    asked, kind, status, time.monotonic() - asked, b"" if status == "OK" else value
                )
            )
            due = max(due + self._pause, time.monotonic() - self._pause)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        if stream is not None:
            stream[1].close()

    async def _ask(
        self, stream: Stream | None, name: bytes, user: int
    ) -> tuple[str, bytes, Stream | None]:
        """Ask once; once more over a new connection when the server has closed the one in use."""
        key = name + b" " + address(user)
        for _ in range(2):
            try:
                if stream is None:
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
            if status == b"OK" and value != mailbox(user):
                return "WRONG", value, stream
            return status.decode(), value, stream
        return "LOST", b"", None


def percentile(samples: Iterable[Sample], share: float) -> float:
    """Return the latency in seconds that the given share of the lookups did not exceed."""
    latencies = sorted(sample.seconds for sample in samples)
    return latencies[min(len(latencies) - 1, int(len(latencies) * share))]


def reasons(samples: Iterable[Sample]) -> Counter[bytes]:
    """Count the lookups that were not answered by what they were told."""
    return Counter(sample.reason for sample in samples if sample.status != "OK")


def statuses(samples: Iterable[Sample]) -> Counter[str]:
    """Count the lookups by how they ended."""
    return Counter(sample.status for sample in samples)
