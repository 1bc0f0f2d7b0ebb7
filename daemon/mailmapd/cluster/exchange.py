"""The exchange: questions to the second level, many at a time, and what is told to it.

Nobody waits for longer than `DEADLINE`: then a question is answered with nothing. When the server fails, or keeps
somebody waiting, all who wait get nothing at once, and nobody asks until it has answered in time while nobody waited.

What is to be shared is dropped, and counted, when it comes faster than it can be told, or when the server has no room.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import NamedTuple

from mailmapd.cluster.scripts import ASK, FILL, GIVEN, REFUSED
from mailmapd.cluster.server import Command, Server
from mailmapd.cluster.settings import SPARED
from mailmapd.cluster.shared_answer import MOST_BYTES
from mailmapd.errors import ClusterError
from mailmapd.tasks import end_tasks

log = logging.getLogger(__name__)

DEADLINE = 0.05
"""Seconds for which a lookup waits for the second level."""

FETCHING = 20.0  # seconds for which a token stands: longer than any query takes, its queue included
BATCH = 200  # questions of one request
MOST_WAITING = 2000  # questions, or answers to be shared, that wait
_LATE = 0.01  # seconds after a deadline from which on it is this process that was late …
_GRACE = 0.02  # … so that a reply has these
_RETRY, _LONGEST_RETRY = 0.5, 15.0  # seconds until it is tried again
_LOOKED = 1.0  # seconds between two looks at the server's memory
_ABSENCES = 0.5  # the part of the memory beyond which no absences are shared


class Reply(NamedTuple):
    """The server's word on a question: a sealed answer, or a token, or neither; and the marks that stand there."""

    sealed: bytes = b""
    marks: tuple[bytes, ...] = ()
    token: bytes = b""


NOTHING = Reply()


class Question:
    """A question: the names of the marks, of the value and of its guard. `answered` is told the reply once."""

    __slots__ = ("answered", "deadline", "guard", "is_answered", "is_spared", "marks", "value")

    def __init__(
        self,
        marks: tuple[bytes, ...],
        value: bytes,
        guard: bytes,
        answered: Callable[[Reply], None],
    ) -> None:
        self.marks = marks
        self.value = value
        self.guard = guard
        self.answered = answered
        self.deadline = 0.0
        self.is_answered = False
        self.is_spared = False


class Fill(NamedTuple):
    """An answer to be shared, with the token that must still stand there; `lifetime` is in seconds."""

    value: bytes
    guard: bytes
    token: bytes
    sealed: bytes
    lifetime: float
    absent: bool


class Exchange:
    """Asks and tells the server between `start` and `close`. `reason` says why nobody asks now, or nothing.

    `counts` are of questions (``late``) and of answers to be shared (``filled``, ``refused``, ``dropped``).
    """

    def __init__(self, server: Server, max_bytes: int, clock: Callable[[], float]) -> None:
        self.reason = "not reached yet"
        self.counts: Counter[str] = Counter()
        self.used = 0
        self.history: Callable[[], str] = (
            str  # of the server that carries the stream, once it is known
        )
        self._server = server
        self._max_bytes = max_bytes
        self._clock = clock
        self._run_of_daemon = secrets.token_hex(8)
        self._numbers = count(1)
        self._waiting: deque[Question] = deque()  # not sent yet
        self._open: deque[Question] = deque()  # perhaps not answered yet, by deadline
        self._timer: asyncio.TimerHandle | None = None
        self._asked = asyncio.Event()
        self._fills: deque[Fill] = deque()
        self._commands: deque[Command] = deque()
        self._unusable: set[bytes] = set()
        self._held = 0
        self._stale_connections = False
        self._telling = False
        self._told = asyncio.Event()
        self._room = 0.0
        self._looked = float("-inf")
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._ask()), loop.create_task(self._tell())]

    async def close(self) -> None:
        """End; whoever waits gets nothing."""
        await end_tasks(self._tasks)
        self.reason = "closed"
        self.give_up()
        await self._server.close()

    def ask(self, question: Question) -> None:
        """Have a question answered, later than this call. Only while there is no `reason` not to ask."""
        loop = asyncio.get_running_loop()
        self._leave_out_answered()
        if len(self._open) >= MOST_WAITING:
            self.counts["late"] += 1
            loop.call_soon(self._answer, question, NOTHING)
            return
        question.deadline = loop.time() + DEADLINE
        self._waiting.append(question)
        self._open.append(question)
        if self._timer is None:
            self._timer = loop.call_at(question.deadline, self._look_at_deadlines)
        self._asked.set()

    def fill(self, fill: Fill) -> None:
        """Share an answer, if that is still allowed when it is told."""
        if len(self._fills) >= MOST_WAITING:
            self.counts["dropped"] += 1
            return
        self._fills.append(fill)
        self._told.set()

    def tell(self, commands: Iterable[Command]) -> None:
        """Have commands carried out as soon as may be; nobody asks or is answered before.

        They wait for a server that is away, however long: whoever has that many says all in one.
        """
        self._commands.extend(commands)
        self.give_up()
        self._told.set()

    def throw_away(self, value: bytes) -> None:
        """Remove an answer that nobody can use, so that it is fetched and shared anew."""
        if len(self._unusable) < MOST_WAITING:
            self._unusable.add(value)
            self._told.set()

    @property
    def untold(self) -> int:
        """Return how many commands were not carried out yet."""
        return len(self._commands)

    @property
    def is_open(self) -> bool:
        """Return whether questions may be asked: the server answers, and nothing waits to be told to it."""
        return not self.reason and not self._commands and not self._held

    @contextmanager
    def held(self) -> Iterator[None]:
        """Ask nothing meanwhile, and believe nothing that was asked for before."""
        self._held += 1
        self.give_up()
        try:
            yield
        finally:
            self._held -= 1

    def fail(self, reason: str) -> None:
        """Let nobody wait or ask until the server has answered in time."""
        if not self.reason:
            log.warning("second level: %s; it is left aside", reason)
        self.reason = reason
        self.give_up()
        self._asked.set()

    def reconnect(self) -> None:
        """Let nobody ask until new connections are there."""
        self._stale_connections = True
        self.fail("connecting anew")

    def give_up(self) -> None:
        """Answer whoever waits with nothing."""
        waiting, self._open = self._open, deque()
        self._waiting.clear()
        for question in waiting:
            self._answer(question, NOTHING)

    def _look_at_deadlines(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        self._leave_out_answered()
        if not self._open:
            return
        now, first = loop.time(), self._open[0]
        if now < first.deadline:
            self._timer = loop.call_at(first.deadline, self._look_at_deadlines)
            return
        if now - first.deadline > _LATE and not first.is_spared:
            # This process was kept from looking: the reply may be here already
            first.is_spared = True
            self._timer = loop.call_later(_GRACE, self._look_at_deadlines)
            return
        self.counts["late"] += sum(not question.is_answered for question in self._open)
        self.fail(f"{self._server.place}: no answer within {DEADLINE * 1000:g} ms")

    def _leave_out_answered(self) -> None:
        while self._open and self._open[0].is_answered:
            self._open.popleft()

    @staticmethod
    def _answer(question: Question, reply: Reply) -> None:
        if question.is_answered:
            return
        question.is_answered = True
        try:
            question.answered(reply)
        except Exception:
            log.exception("second level: a reply could not be passed on: a defect of mailmapd")

    async def _ask(self) -> None:
        """Send questions, as many at a time as have gathered."""
        pause = 0.0
        while True:
            if self.reason:
                pause = await self._try_again(pause)
                continue
            await self._asked.wait()
            self._asked.clear()
            while self._waiting and not self.reason:
                size = min(BATCH, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(size)]
                try:
                    replies = await self._read(batch)
                except ClusterError as error:
                    self.fail(str(error))
                except Exception:
                    log.exception("second level: a defect of mailmapd")
                    self.fail("a defect of mailmapd; its log says more")
                else:
                    for question, reply in zip(batch, replies, strict=True):
                        self._answer(question, reply)

    async def _try_again(self, pause: float) -> float:
        """See whether the server answers in time while nobody waits; return when to try again, in seconds."""
        await asyncio.sleep(pause)
        if self._stale_connections:
            self._stale_connections = False
            await self._server.disconnect()
        began = asyncio.get_running_loop().time()
        try:
            await self._server.evaluate(ASK, [], [0, MOST_BYTES, "", 1, ""], self.history())
        except ClusterError as error:
            self.reason = str(error)
        except Exception:
            log.exception("second level: a defect of mailmapd")
        else:
            if asyncio.get_running_loop().time() - began <= DEADLINE:
                log.info("second level: shared at %s", self._server.place)
                self.reason = ""
                return _RETRY
        return min(max(pause * 2, _RETRY), _LONGEST_RETRY)

    async def _read(self, batch: Sequence[Question]) -> list[Reply]:
        names = list(dict.fromkeys(name for question in batch for name in question.marks))
        keys = [*names, *[key for question in batch for key in (question.value, question.guard)]]
        token = f"{self._run_of_daemon}:{next(self._numbers)}".encode()
        made = secrets.token_hex(8)
        fetching = round(FETCHING * 1000)
        arguments: list[bytes | str | int] = [len(names), MOST_BYTES, token, fetching, made]
        said = await self._server.evaluate(ASK, keys, arguments, self.history())
        if (
            not isinstance(said, list)
            or len(said) != len(names) + len(batch)
            or not all(isinstance(word, bytes) for word in said)
        ):
            raise ClusterError(f"{self._server.place}: an answer that is none of Valkey or Redis")
        marks = dict(zip(names, said, strict=False))
        replies = []
        for question, value in zip(batch, said[len(names) :], strict=True):
            stand = tuple([marks[name] for name in question.marks])
            if value in (GIVEN, REFUSED):
                replies.append(Reply(b"", stand, token if value == GIVEN else b""))
            else:
                replies.append(Reply(value, stand))
        return replies

    async def _tell(self) -> None:
        """Carry out commands, and share answers."""
        while True:
            await self._told.wait()
            self._told.clear()
            self._telling = True
            try:
                while self._commands:
                    commands = list(self._commands)
                    await self._server.carry_out(commands, self.history())
                    for _ in commands:
                        self._commands.popleft()
                if self._unusable:
                    unusable, self._unusable = self._unusable, set()
                    await self._server.carry_out([("UNLINK", *unusable)])
                while self._fills:
                    await self._share(
                        [self._fills.popleft() for _ in range(min(BATCH, len(self._fills)))]
                    )
            except ClusterError as error:
                log.debug("second level: not told: %s", error)
                self._give_up_fills()
                if self._commands:
                    self._told.set()
                    await asyncio.sleep(_RETRY)
            except Exception:
                log.exception("second level: a defect of mailmapd; nothing is shared for a moment")
                self._give_up_fills()
                await asyncio.sleep(_RETRY)
            finally:
                self._telling = False

    def _give_up_fills(self) -> None:
        self.counts["dropped"] += len(self._fills)
        self._fills.clear()

    async def _share(self, fills: Sequence[Fill]) -> None:
        await self._look_at_room()
        fitting = [fill for fill in fills if self._room > (_ABSENCES if fill.absent else 0.0)]
        self.counts["dropped"] += len(fills) - len(fitting)
        if not fitting:
            return
        keys = [key for fill in fitting for key in (fill.value, fill.guard)]
        arguments = [
            text
            for fill in fitting
            for text in (fill.token, fill.sealed, max(round(fill.lifetime * 1000), 1))
        ]
        filled = int(await self._server.evaluate(FILL, keys, arguments, self.history()))
        self.counts["filled"] += filled
        self.counts["refused"] += len(fitting) - filled

    async def _look_at_room(self) -> None:
        """See, now and then, which part of the memory that may be used is left."""
        now = self._clock()
        if now - self._looked < _LOOKED:
            return
        self.used, limit = await self._server.memory()
        most = min(self._max_bytes, limit * SPARED if limit else self._max_bytes)
        self._room = 1.0 - self.used / most
        self._looked = now
