"""One client's connection: bytes between a socket and a conversation.

What memory can answer is answered in the callback that read the question, all replies of one read
in one write. Anything else is delivered later, while reading goes on into a bounded buffer; answers
leave in the order of their questions.

The state of a connection, and what leads from one to another, are in `connection_state`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Protocol, cast

from mailmapd.errors import ProtocolError
from mailmapd.server.connection_state import AT_REST, BEHIND, State
from mailmapd.server.conversation import LATER, Conversation
from mailmapd.server.flow_control import WRITE_AHEAD, FlowControl
from mailmapd.sockets.peers import peer_of

log = logging.getLogger(__name__)

DRAIN_GRACE = 0.5  # seconds in which a draining connection waits for the question that ends it
DEFECT = "listener %s: a query ended in a defect of mailmapd; its connection is closed"
TURN = 64  # queries answered at one go; then the other connections have their turn


# A lookup compares with these: an attribute of an Enum class costs a call in Python 3.11
_QUIET = State.QUIET
_WAITING = State.WAITING


class Reception(Protocol):
    """The listener that a client came to, as its connection sees it."""

    name: str
    clock: Callable[[], float]

    def admit(self, connection: Connection) -> bool:
        """Take the client in, or return False."""
        ...

    def departed(self, connection: Connection) -> None:
        """Forget a client that is gone."""
        ...

    def violated(self, error: ProtocolError) -> None:
        """Note that a client left the protocol; its connection ends."""
        ...


class Connection(asyncio.Protocol):
    """See the module.

    `last_activity` is when the client last sent bytes, or took them after a pause; `partial_since`
    when it began the query that it has not finished yet, if there is one.
    """

    def __init__(self, listener: Reception, conversation: Conversation) -> None:
        self.state = _QUIET if conversation.between_queries else State.PART
        self._rest = _QUIET  # the state that follows when every query is answered
        self._listener = listener
        self._conversation = conversation
        self._transport: asyncio.Transport
        self._flow: FlowControl
        self._stream: asyncio.Task[None] | None = None  # writes a reply of many parts
        self._clock = listener.clock
        self.last_activity = 0.0
        self.peer: object = None
        self.partial_since: float | None = None

    @property
    def stalled(self) -> bool:
        """Return whether replies wait for a client that does not read them."""
        return not self._flow.taking

    @property
    def busy(self) -> bool:
        """Return whether a query of this connection waits for a database."""
        return self.state is _WAITING

    # - what the event loop says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start, if the listener lets this client in."""
        self._transport = cast("asyncio.Transport", transport)
        self._flow = FlowControl(self._transport)
        self.peer = peer_of(transport)
        self.last_activity = self._clock()
        if not self._listener.admit(self):
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        """Forget the client; a query on its way to the database still lands in the cache."""
        self.state = self._rest = State.CLOSED
        self._flow.resume_writing()
        self._listener.departed(self)

    def data_received(self, data: bytes) -> None:
        """Answer what can be answered now."""
        try:
            now = self.last_activity = self._clock()
            if self.state is not _QUIET:
                self._take(data)
                return
            # The two ways of nearly every lookup, with nothing in them that others need, and as few calls as can be
            conversation = self._conversation
            recalled = conversation.recall(data, now)
            if recalled is not None:
                seconds = self._clock() - now
                self._transport.write(recalled[0])
                # While the client wakes up
                conversation.count_recalled(recalled, seconds)
                return
            reply = conversation.reply_to(data, self._deliver)
            if reply is None:
                self._take(data)
            elif reply is LATER:
                self.state = _WAITING
            else:
                self._transport.write(reply)
        except Exception:
            log.exception(DEFECT, self._listener.name)
            self.abort()

    def eof_received(self) -> bool:
        """Keep the connection half open while an answer is due; otherwise let it close."""
        self._rest = State.CLOSED
        if self.state in BEHIND:
            return True
        self.state = State.CLOSED
        return False

    def pause_writing(self) -> None:
        """Stop answering: the client does not read."""
        self._flow.pause_writing()
        if self.state in AT_REST:
            self.state = State.STALLED

    def resume_writing(self) -> None:
        """Go on answering."""
        self.last_activity = self._clock()
        self._flow.resume_writing()
        if self.state is State.STALLED:
            self._catch_up()

    # - what the listener says

    def drain(self) -> None:
        """Close soon, and never with a question that is neither answered nor sure to be asked again.

        A client that asks again when a connection ends instead of an answer (Postfix) is hung up on
        when it asks next; one that asks nothing for a moment is hung up on like every other.
        Closing between two questions would kill a postmap, by SIGPIPE, when it writes the next.
        """
        if not self._conversation.asks_again:
            self.hang_up()
            return
        if self._rest is _QUIET:
            self._rest = State.LEAVING
            if self.state is _QUIET:
                self.state = State.LEAVING
        asyncio.get_running_loop().call_later(DRAIN_GRACE, self.hang_up)

    def hang_up(self) -> None:
        """Close as soon as everything the client has already sent is answered.

        The kernel takes nothing more from the client, what it holds is read and answered, and then
        comes the end of file. Between UNIX sockets this leaves no gap: what the client sends next
        fails at once (EPIPE), and it asks again over a new connection.
        """
        if self._rest is State.LEAVING:
            self._rest = _QUIET
            if self.state is State.LEAVING:
                self.state = _QUIET
        if not self._transport.is_closing():
            with suppress(OSError):  # the client is gone already
                descriptor = os.dup(self._transport.get_extra_info("socket").fileno())
                with socket.socket(fileno=descriptor) as own:
                    own.shutdown(socket.SHUT_RD)

    def abort(self) -> None:
        """Close at once."""
        self.state = self._rest = State.CLOSED
        self._transport.abort()

    # - answering

    def _take(self, data: bytes) -> None:
        """Take in what is not one usual query of a connection at rest."""
        state = self.state
        if state is State.LEAVING:
            self._close()
            return
        self._conversation.receive_data(data)
        if state in BEHIND:
            self._flow.hold(len(data))
        else:
            self._answer()

    def _answer(self) -> None:
        """Answer what is here, while the client takes replies, and go to the state that follows."""
        state = self._answer_some()
        if state is State.CLOSED:
            self._close()
        elif state is _WAITING:
            self.state = _WAITING
        elif not self._flow.taking:
            self.state = State.STALLED
        elif state is State.TURN:
            self.state = State.TURN
            asyncio.get_running_loop().call_soon(self._catch_up)
        elif self._rest is State.CLOSED:
            self._close()
        else:
            self.state = self._rest if self._conversation.between_queries else State.PART
            if self.partial_since is None and self._conversation.buffered:
                self.partial_since = self.last_activity

    def _answer_some(self) -> State:
        """Write the replies to the queries of one turn.

        Return what ended it: WAITING, a query must wait; CLOSED, the client left the protocol; TURN, more may be here;
        QUIET, no whole query is left.
        """
        replies: list[bytes] = []
        size = 0
        ended = State.TURN
        while len(replies) < TURN and size < WRITE_AHEAD:
            try:
                reply = self._conversation.next_reply(self._deliver)
            except ProtocolError as error:
                self._listener.violated(error)
                ended = State.CLOSED
                break
            if reply is None:
                ended = _QUIET
                break
            if not isinstance(reply, bytes):
                ended = _WAITING
                if reply is not LATER:
                    writing = self._write_all(reply)
                    self._stream = asyncio.get_running_loop().create_task(writing)
                break
            replies.append(reply)
            size += len(reply)
        if replies or ended is _WAITING:
            self.partial_since = None
        if replies and not self._transport.is_closing():
            self._transport.write(replies[0] if len(replies) == 1 else b"".join(replies))
        return ended

    def _deliver(self, reply: bytes) -> None:
        """Write a reply that had to wait, and go on."""
        try:
            if not self._transport.is_closing():
                self._transport.write(reply)
        except Exception:
            log.exception(DEFECT, self._listener.name)
            self.abort()
        self._catch_up()

    async def _write_all(self, reply: AsyncIterator[bytes]) -> None:
        """Write a reply of many parts, each when the client has taken most of those before, and go on."""
        try:
            async for chunk in reply:
                if self._transport.is_closing():
                    break
                self._transport.write(chunk)
                await self._flow.taken()
        except Exception:
            log.exception(DEFECT, self._listener.name)
            self.abort()
        self._stream = None
        self._catch_up()

    def _catch_up(self) -> None:
        """Answer what arrived in the meantime, and read again when all of it is answered."""
        if self._transport.is_closing():
            return
        if not self._flow.taking:
            self.state = State.STALLED
            return
        if self._rest is _QUIET and self._conversation.between_queries:
            self.state = _QUIET  # nothing arrived, as nearly always: `_answer` would say the same
            self._flow.release()
            return
        try:
            self._answer()
        except Exception:
            log.exception(DEFECT, self._listener.name)
            self.abort()
        if self.state not in BEHIND:
            self._flow.release()

    def _close(self) -> None:
        """Close when all replies are written."""
        self.state = self._rest = State.CLOSED
        self._transport.close()
