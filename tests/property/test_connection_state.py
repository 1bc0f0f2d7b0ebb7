"""A connection under any order of events: its states are those of the table, and every question has its answer."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from mailmapd.errors import ProtocolError
from mailmapd.server import connection_state
from mailmapd.server.connection import Connection
from mailmapd.server.connection_state import State
from mailmapd.server.conversation import LATER, Deliver, Reply

CLIENT = ("fast", "slow", "two", "many", "half", "rest", "nonsense")
EVENTS = (*CLIENT, "deliver", "turn", "pause", "full", "resume", "drain", "hang up")
ENDS = ("end of file", "lost")
_TABLE = re.compile(r"^    (\w[\w ]+?) {2,}([a-z, ]+?) {2,}(.+)$", re.MULTILINE)
_WORDS = {state.value: state for state in State}


def moves() -> set[tuple[State, State]]:
    """Return every move between two states that the module's docstring allows."""
    text = (connection_state.__doc__ or "").split("lead from one to another:")[1]
    rests = {State.QUIET, State.LEAVING, State.CLOSED}
    answer = {State.WAITING, State.STALLED, State.TURN, State.PART} | rests
    found = {(state, State.CLOSED) for state in State}
    for _, states, target in _TABLE.findall(text):
        ends = answer if target.startswith("answer") else {_WORDS[target.partition(";")[0].strip()]}
        found |= {(_WORDS[word], end) for word in states.split(", ") for end in ends}
    return found


MOVES = moves()


class Watched(Connection):
    """A connection whose moves are held against the table."""

    @property
    def state(self) -> State:
        """Return the state."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        before = getattr(self, "_state", state)
        assert before is state or (before, state) in MOVES, f"{before} to {state}"
        self._state = state


class Lines:
    """A conversation of lines: ``f1`` is answered at once, ``s1`` later, ``x`` is no query; it has no memory."""

    asks_again = True

    def __init__(self) -> None:
        self.held = b""
        self.waiting: list[Callable[[], None]] = []

    @property
    def buffered(self) -> int:
        """Return how much of a query is here."""
        return len(self.held)

    @property
    def between_queries(self) -> bool:
        """Return whether none is."""
        return not self.held

    def recall(self, _: bytes, __: float) -> None:
        """Remember nothing."""

    def count_recalled(self, *_: Any) -> None:
        """Count nothing."""

    def reply_to(self, data: bytes, deliver: Deliver, /) -> Any:
        """Answer one whole line."""
        assert not self.held, "a question may overtake"
        if data.count(b"\n") != 1 or data[-1:] != b"\n" or data[:1] == b"x":
            return None
        return self._answer(data, deliver)

    def receive_data(self, data: bytes, /) -> None:
        """Store bytes."""
        self.held += data

    def next_reply(self, deliver: Deliver, /) -> Reply | None:
        """Answer the next line."""
        line, end, rest = self.held.partition(b"\n")
        if line[:1] == b"x":
            raise ProtocolError("nonsense", "a line begins with x")
        if not end:
            return None
        assert not self.waiting, "a question is decoded before the one before is answered"
        self.held = rest
        return self._answer(line + end, deliver)

    def _answer(self, line: bytes, deliver: Deliver) -> Reply:
        if line[:1] == b"f":
            return line
        self.waiting.append(lambda: deliver(line))
        return LATER


class Wire(asyncio.Transport):
    """The client's end: what was written, and whether it is read from."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False
        self.reading = True
        self.full: Callable[[], None] | None = None
        self.socket, self.other = socket.socketpair()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the socket."""
        return self.socket if name == "socket" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is held here."""

    def write(self, data: Any) -> None:
        """Take a reply."""
        assert not self.closing, "a reply after the end"
        self.written += data
        if self.full is not None:
            self.full()
            self.full = None

    def is_closing(self) -> bool:
        """Return whether the connection has closed."""
        return self.closing

    def close(self) -> None:
        """Close."""
        self.closing = True

    abort = close

    def pause_reading(self) -> None:
        """Stop reading."""
        self.reading = False

    def resume_reading(self) -> None:
        """Read again."""
        assert not self.reading
        self.reading = True


class Reception:
    """A listener that lets everybody in."""

    name = "lines"

    def __init__(self) -> None:
        self.clock = lambda: 0.0
        self.violations = 0

    def admit(self, _: Connection) -> bool:
        """Let the client in."""
        return True

    def departed(self, _: Connection) -> None:
        """Forget the client."""

    def violated(self, _: ProtocolError) -> None:
        """Count."""
        self.violations += 1


class Drive:
    """One connection, and the questions that must be answered."""

    def __init__(self) -> None:
        self.lines, self.wire, self.reception = Lines(), Wire(), Reception()
        self.connection = Watched(self.reception, self.lines)
        self.connection.connection_made(self.wire)
        self.asked = b""
        self.half = self.over = self.left = False
        self.rest = State.QUIET

    def send(self, data: bytes) -> None:
        """Have bytes arrive, as long as somebody reads them."""
        if self.wire.closing or not self.wire.reading or self.over:
            return
        before, written = self.connection.state, self.wire.written
        paused = not self.connection._flow.taking
        self.connection.data_received(data)
        assert not paused or self.wire.written == written, "a reply that nobody takes"
        if before is State.LEAVING:
            self.left = True  # the client asks elsewhere
        else:
            self.asked += data

    async def do(self, event: str, number: int) -> None:
        """Have one event happen."""
        if event == "turn":
            await asyncio.sleep(0)
        elif event in CLIENT:
            self.client_does(event, number)
        else:
            self.server_does(event)

    def client_does(self, event: str, number: int) -> None:
        """Have bytes arrive, if they may arrive now."""
        name = b"%d\n" % number
        match event:
            case "fast" | "slow" if not self.half:
                self.send(event[:1].encode() + name)
            case "two" if not self.half:
                self.send(b"f%bf%b" % (name, name))
            case "many" if not self.half:
                self.send(b"".join(b"%c%d\n" % (b"ffs"[i % 3], i) for i in range(number)))
            case "half" if not self.half:
                self.half = True
                self.send(b"f")
            case "rest" if self.half:
                self.half = False
                self.send(name)
            case "nonsense" if not self.half:
                self.send(b"x\n")
            case _:
                pass

    def server_does(self, event: str) -> None:
        """Have something else happen, if it may happen now."""
        match event:
            case "deliver" if self.lines.waiting:
                self.lines.waiting.pop()()
            case "pause" if self.connection._flow.taking and not self.wire.closing:
                self.connection.pause_writing()
            case "full" if self.connection._flow.taking:
                self.wire.full = self.connection.pause_writing
            case "resume" if not self.connection._flow.taking:
                self.connection.resume_writing()
            case "drain":
                self.rest = State.LEAVING if self.rest is State.QUIET else self.rest
                self.connection.drain()
            case "hang up":
                self.rest = State.QUIET if self.rest is State.LEAVING else self.rest
                self.connection.hang_up()
            case "end of file" if self.wire.reading and not self.wire.closing and not self.over:
                self.over = True
                self.rest = State.CLOSED
                if not self.connection.eof_received():
                    self.wire.close()
            case "lost":
                self.wire.close()
                self.connection.connection_lost(None)
            case _:
                pass

    def rest_now(self) -> State:
        """Return the state in which the connection must be when nothing is due."""
        if self.left or self.over or b"x" in self.asked:
            return State.CLOSED
        return State.PART if self.asked and self.asked[-1:] != b"\n" else self.rest

    async def finish(self) -> None:
        """Have everything happen that is due."""
        while self.lines.waiting or self.connection.state in connection_state.BEHIND:
            await self.do("resume", 0)
            await self.do("deliver", 0)
            await self.do("turn", 0)


STEPS = st.lists(
    st.tuples(st.sampled_from(EVENTS * 2 + ENDS), st.integers(1, 150)), min_size=10, max_size=40
)


@settings(max_examples=200)
@given(STEPS)
def test_any_order_of_events(steps: list[tuple[str, int]]) -> None:
    """Whatever happens in whatever order, moves are those of the docstring, and each question is
    answered in its turn.
    """

    async def play() -> None:
        drive = Drive()
        try:
            for event, number in steps:
                await drive.do(event, number)
            assert drive.asked.startswith(drive.wire.written)
            await drive.finish()
            expected, violated, _ = drive.asked.partition(b"x")
            lost = any(event == "lost" for event, _ in steps)
            if not lost:
                assert drive.wire.written == expected[: expected.rfind(b"\n") + 1]
                assert drive.wire.closing or drive.wire.reading
                assert drive.reception.violations == bool(violated)
                assert drive.connection.state is drive.rest_now()
                assert drive.wire.closing == (drive.connection.state is State.CLOSED)
        finally:
            drive.wire.socket.close()
            drive.wire.other.close()

    asyncio.run(play())
