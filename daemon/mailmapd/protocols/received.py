"""The bytes that a client has sent and no query has used yet.

The usual case, exactly one request in each segment, costs no copy: the segment itself is the
buffer, and a request ends where it does.
"""

from __future__ import annotations

from mailmapd.errors import ProtocolError


class Received:
    """A buffer that readers of one framing (netstrings, lines) extend.

    `_data[_start:]` is what waits. A reader that uses all of it sets `_data` to nothing and
    `_start` to 0, else it moves `_start`.
    """

    __slots__ = ("_data", "_refusal", "_start")

    def __init__(self) -> None:
        self._data = b""
        self._start = 0
        self._refusal: ProtocolError | None = None

    @property
    def buffered(self) -> int:
        """Return the number of bytes that wait."""
        return len(self._data) - self._start

    def receive_data(self, data: bytes, /) -> None:
        """Append bytes; after a refusal, drop them."""
        if self._refusal is not None:
            return
        if self._data:
            self._data = self._data[self._start :] + data
            self._start = 0
        else:
            self._data = data

    def refuse(self, reason: str, text: str) -> ProtocolError:
        """Drop what waits and all that follows; return the error to raise."""
        self._data = b""
        self._start = 0
        self._refusal = ProtocolError(reason, text)
        return self._refusal

    def check(self) -> None:
        """Raise the refusal again, if there was one."""
        if self._refusal is not None:
            raise ProtocolError(self._refusal.reason, str(self._refusal))
