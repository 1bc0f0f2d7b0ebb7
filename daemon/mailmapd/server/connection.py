"""One client's connection: bytes between a socket and a conversation.

What memory can answer is answered in the callback that read the question, all replies of one read
in one write. Anything else is delivered later, while reading goes on into a bounded buffer; answers
leave in the order of their questions. A client that does not read its replies is not read from
either, and closed when it stalls.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from mailmapd.errors import ProtocolError
from mailmapd.server.conversation import LATER

if TYPE_CHECKING:
    from mailmapd.server.conversation import Conversation
    from mailmapd.server.listener import Listener

log = logging.getLogger(__name__)

READ_AHEAD = (
    128 * 1024
)  # bytes taken from a client whose earlier query still waits, before reading pauses
DRAIN_GRACE = 0.5  # seconds in which a draining connection waits for the question that ends it
WRITE_AHEAD = (
    64 * 1024
)  # bytes of replies kept for a client that does not read them, before answering pauses
DEFECT = "listener %s: a query ended in a defect of mailmapd; its connection is closed"
TURN = 64  # queries answered at one go; then the other connections have their turn


class Connection(asyncio.Protocol):
    """See the module.

    `last_activity` is when the client last sent bytes, or took them after a pause; `partial_since`
    when it began the query that it has not finished yet, if there is one.
    """

    def __init__(self, listener: Listener, conversation: Conversation) -> None:
        self._listener = listener
        self._conversation = conversation
        self._transport: asyncio.Transport
        self._waiting = False  # for the reply to a query
        self._stream: asyncio.Task[None] | None = None  # writes a reply of many parts
        self._ahead = 0
        self._paused_reading = False
        self._taking = True  # the client takes its replies
        self._taking_again = asyncio.Event()
        self._turn_due = False  # queries that have arrived wait for this connection's next turn
        self._closing = False
        self._leaving = False  # the next question ends the connection
        self._refused = False  # the client left the protocol, which has been counted
        self._quiet = (
            True  # nothing is being answered, no byte waits, and the client takes its replies
        )
        self._clock = listener.clock
        self.last_activity = 0.0
        self.partial_since: float | None = None

    @property
    def stalled(self) -> bool:
        """Return whether replies wait for a client that does not read them."""
        return not self._taking

    @property
    def busy(self) -> bool:
        """Return whether a query of this connection waits for a database."""
        return self._waiting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start, if the listener lets this client in."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_AHEAD)
        self.last_activity = self._clock()
        if not self._listener.admit(self, self._transport):
            self._closing = True
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        """Forget the client; a query on its way to the database still lands in the cache."""
        self._closing = True
        self._taking_again.set()
        self._listener.departed(self)

    def data_received(self, data: bytes) -> None:
        """Answer what can be answered now."""
        try:
            self._take(data)
        except Exception:
            log.exception(DEFECT, self._listener.name)
            self._transport.abort()

    def _take(self, data: bytes) -> None:
        now = self.last_activity = self._clock()
        if self._quiet:
            recalled = self._conversation.recall(data, now)
            if recalled is not None:
                seconds = self._clock() - now
                self._transport.write(recalled[0])
                self._conversation.count_recalled(recalled, seconds)  # while the client wakes up
                return
            reply = self._conversation.reply_to(data, self._deliver)
            if reply is LATER:
                self._waiting = True
                self._quiet = False
                return
            if reply is not None:
                self._transport.write(reply)
                return
        elif (
            self._leaving
            and not self._waiting
            and self._taking
            and self._conversation.between_queries
        ):
            self._transport.close()
            return
        self._conversation.receive_data(data)
        if not self._waiting and self._taking and not self._turn_due:
            self._answer()
            return
        self._ahead += len(data)
        if (self._ahead > READ_AHEAD or not self._taking) and not self._paused_reading:
            self._paused_reading = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Keep the connection half open while an answer is due; otherwise let it close."""
        self._closing = True
        return self._waiting or self._turn_due or not self._taking

    def pause_writing(self) -> None:
        """Stop answering: the client does not read."""
        self._taking = self._quiet = False
        self._taking_again.clear()

    def resume_writing(self) -> None:
        """Go on answering."""
        self.last_activity = self._clock()
        self._taking = True
        self._taking_again.set()
        if not self._waiting and not self._turn_due:
            self._catch_up()

    def drain(self) -> None:
        """Close soon, and never with a question that is neither answered nor sure to be asked again.

        A client that asks again when a connection ends instead of an answer (Postfix) is hung up on
        when it asks next; one that asks nothing for a moment is hung up on like every other.
        Closing between two questions would kill a postmap, by SIGPIPE, when it writes the next.
        """
        self._quiet = False
        if self._conversation.asks_again:
            self._leaving = True
            asyncio.get_running_loop().call_later(DRAIN_GRACE, self.hang_up)
        else:
            self.hang_up()

    def hang_up(self) -> None:
        """Close as soon as everything the client has already sent is answered.

        The kernel takes nothing more from the client, what it holds is read and answered, and then
        comes the end of file. Between UNIX sockets this leaves no gap: what the client sends next
        fails at once (EPIPE), and it asks again over a new connection.
        """
        self._quiet = self._leaving = False
        if not self._transport.is_closing():
            with suppress(OSError):  # the client is gone already
                descriptor = os.dup(self._transport.get_extra_info("socket").fileno())
                with socket.socket(fileno=descriptor) as one:
                    one.shutdown(socket.SHUT_RD)

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _answer(self) -> None:
        """Answer until a query must wait, none is left, the turn is over, or the client takes no more replies."""
        more = self._answer_some()
        if self._waiting or not self._taking:
            self._quiet = False
        elif more:
            self._quiet = False
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._take_turn)
        elif self._closing:
            self._transport.close()
        else:
            self._quiet = not self._leaving and self._conversation.between_queries
            if self.partial_since is None and self._conversation.buffered:
                self.partial_since = self.last_activity

    def _answer_some(self) -> bool:
        """Write the replies to the queries of one turn; return whether more may follow."""
        replies: list[bytes] = []
        size = 0
        more = False
        try:
            while not more:
                reply = self._conversation.next_reply(self._deliver)
                if reply is None:
                    break
                if not isinstance(reply, bytes):
                    self._waiting = True
                    if reply is not LATER:
                        self._stream = asyncio.get_running_loop().create_task(
                            self._write_all(reply)
                        )
                    break
                replies.append(reply)
                size += len(reply)
                more = len(replies) >= TURN or size >= WRITE_AHEAD
        except ProtocolError as error:
            self._violated(error)
        except Exception:
            log.exception(DEFECT, self._listener.name)
            self._transport.abort()
        if replies or self._waiting:
            self.partial_since = None
        if replies and not self._transport.is_closing():
            self._transport.write(replies[0] if len(replies) == 1 else b"".join(replies))
        return more

    def _take_turn(self) -> None:
        self._turn_due = False
        if not self._waiting and not self._transport.is_closing():
            self._catch_up()

    def _deliver(self, reply: bytes) -> None:
        """Write a reply that had to wait, and go on."""
        try:
            if not self._transport.is_closing():
                self._transport.write(reply)
            self._go_on()
        except Exception:
            log.exception(DEFECT, self._listener.name)
            self._transport.abort()

    async def _write_all(self, reply: AsyncIterator[bytes]) -> None:
        """Write a reply of many parts, each when the client has taken most of those before, and go on."""
        try:
            async for chunk in reply:
                if self._transport.is_closing():
                    break
                self._transport.write(chunk)
                if not self._taking:
                    await self._taking_again.wait()
        except Exception:
            log.exception(DEFECT, self._listener.name)
            self._transport.abort()
        self._stream = None
        self._go_on()

    def _go_on(self) -> None:
        self._waiting = False
        if not self._transport.is_closing():
            self._catch_up()

    def _catch_up(self) -> None:
        """Answer what arrived in the meantime, and read again."""
        if self._taking:
            self._answer()
        if self._waiting or not self._taking or self._turn_due:
            return
        self._ahead = 0
        if self._paused_reading and not self._transport.is_closing():
            self._paused_reading = False
            self._transport.resume_reading()

    def _violated(self, error: ProtocolError) -> None:
        """Close when all replies are written.

        The codec raises the same error again when it is asked once more after a pause.
        """
        if not self._refused:
            self._listener.violated(error)
        self._closing = self._refused = True
