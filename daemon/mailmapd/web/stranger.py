"""A stranger: a client of a socket that every user of this machine, or of a network, may connect to.

Its requests are answered one at a time and in turn with those of all others, so that no number of
them keeps lookups waiting. A body that is longer than any that is expected, or whose length is not
said, is refused before a byte of it is read, and nothing is ever inflated. aiohttp hears of a
stranger when its first whole request has its turn; until then an idle connection costs a few
hundred bytes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from mailmapd.sockets.turns import Turns
from mailmapd.web.http_client import Admit, HttpClient, Protocols

LAST_WORDS = 2.0  # seconds in which a client that is refused may take the reason; nothing is read
HEAD_LIMIT = 16 * 1024  # bytes of a request's head

_END = re.compile(rb"\n\r?\n")
_LENGTH = re.compile(rb"\ncontent-length[ \t]*:[ \t]*(\d{1,9})[ \t]*(?=\r?\n)", re.IGNORECASE)
_EXPECTS_BODY = re.compile(
    rb"\n(?:content-length[ \t]*:(?![ \t]*0*[ \t]*\r?\n)|transfer-encoding[ \t]*:|expect[ \t]*:)",
    re.IGNORECASE,
)
_HEALTH = re.compile(rb"(?:GET|HEAD) /healthz[ ?]")

_NO_REQUEST = b"400 Bad Request"
_TOO_LONG = b"431 Request Header Fields Too Large"
_BODY_TOO_LONG = b"413 Content Too Large"
_NO_BODY = b"No request has a body here.\n"
_BUSY = b"503 Service Unavailable"
_REFUSAL = (
    b"HTTP/1.1 %b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%b"
)


class Stranger(HttpClient):
    """Takes part in `turns`; its questions about health in `health`, which has turns of its own.

    `reserve` marks a client that came when all places were taken, and may ask about health only. A
    request may have a body of `longest_body` bytes.
    """

    def __init__(
        self,
        make: Protocols,
        admit: Admit,
        leave: Callable[[HttpClient], None],
        clock: Callable[[], float],
        *,
        turns: Turns,
        health: Turns,
        longest_body: int = 0,
    ) -> None:
        super().__init__(make, admit, leave, clock)
        self._longest_body = longest_body
        self.reserve = False
        self._turns = turns
        self._health = health
        self._held = bytearray()
        self._searched = 0
        self._asked_before = False
        self._reading = True
        self._ended = False  # it has said that it will ask no more

    def answer_begins(self) -> None:
        """Note that a whole request has come, and perhaps the next one behind it."""
        super().answer_begins()
        self._asks_more = bool(self._held)

    def answer_ends(self) -> None:
        """Note that the client may ask again, and see whether it has."""
        super().answer_ends()
        asyncio.get_running_loop().call_soon(self._look)

    def eof_received(self) -> bool:
        """Keep the connection half open while an answer is due."""
        self._ended = True
        return self._answering

    def _begin(self) -> None:
        """Wait for the first request."""

    def _pass_on(self, data: bytes) -> None:
        self._held += data
        self._look()

    def _look(self) -> None:
        """Ask for a turn when a whole request has come; read on while none has."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        end = None if self._answering else _END.search(self._held, self._searched)
        whole = 0 if end is None else end.end() + self._body_length(end.end())
        complete = end is not None and len(self._held) >= whole
        self._read(on=not self._answering and not complete)
        if complete:
            request = bytes(self._held[:whole])
            del self._held[:whole]
            self._searched = 0
            self._asks_for_turn(request)
        elif end is not None and not self._ended:
            self._searched = end.start()
        elif self._ended and not self._answering:
            transport.close()
        elif not self._answering:
            self._searched = max(0, len(self._held) - 3)
            if len(self._held) > HEAD_LIMIT:
                self._refuse(_TOO_LONG, b"The head of a request is longer than 16 KiB.\n")

    def _body_length(self, end: int) -> int:
        """Return how many bytes of a body behind a head are waited for: none of one that will be refused."""
        lengths = _LENGTH.findall(self._held, 0, end) if self._longest_body else []
        length = int(lengths[0]) if len(lengths) == 1 else 0
        return length if length <= self._longest_body else 0

    def _asks_for_turn(self, request: bytes) -> None:
        end = _END.search(request)
        head = request if end is None else request[: end.end()]
        health = _HEALTH.match(head) is not None
        if not head.strip(b"\r\n"):
            self._refuse(_NO_REQUEST, b"Empty lines are no request.\n")
            return
        if len(head) == len(request) and _EXPECTS_BODY.search(head):
            text = b"A request has at most %d bytes of a body here.\n" % self._longest_body
            self._refuse(_BODY_TOO_LONG, text if self._longest_body else _NO_BODY)
            return
        if self.reserve and not health:
            self._refuse(_BUSY, b"Too many clients are connected.\n")
            return
        first, self._asked_before = not self._asked_before, True
        self.answer_begins()
        turns = self._health if health else self._turns
        turns.ask(lambda: self._feed(request), first=first, peer=self.peer)

    def _feed(self, request: bytes) -> None:
        if not self._admitted:
            return  # the client has gone
        if self._inner is None:
            super()._begin()
        # Until it is taken: what aiohttp makes no request of is one that the client has not finished
        self._asked_since = self._clock()
        super()._pass_on(request)

    def _refuse(self, status: bytes, text: bytes) -> None:
        """Answer in aiohttp's place, and end the connection: what follows is not read."""
        if self.transport is not None:
            self._read(on=False)
            self._held.clear()
            self.transport.write(_REFUSAL % (status, len(text), text))
            self.transport.write_eof()
            asyncio.get_running_loop().call_later(LAST_WORDS, self.transport.abort)

    def _read(self, *, on: bool) -> None:
        if self.transport is not None and on is not self._reading:
            self._reading = on
            if on:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()
