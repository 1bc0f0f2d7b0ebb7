"""Lines that end in LF, with a limit that an unfinished line is held to as well."""

from __future__ import annotations

from typing import Final

from mailmapd.protocols.received import Received

TOO_LONG: Final = "too_long"
REASONS: Final = (TOO_LONG,)


class LineReader(Received):
    """Cuts what is received into lines of at most `limit` bytes, their LF included."""

    __slots__ = ("_limit", "_searched")

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        # Bytes after _start known to hold no LF: a line that trickles in is not searched again from
        # its start
        self._searched = 0

    def next_line(self) -> bytes | None:
        """Return the next line without its LF, or None when it is not complete; raise `ProtocolError`."""
        data = self._data
        if not data:
            self.check()
            return None
        start = self._start
        end = data.find(b"\n", start + self._searched)
        if end < 0:
            self._searched = len(data) - start
            if self._searched >= self._limit:
                raise self.refuse(TOO_LONG, f"a line is longer than {self._limit} bytes")
            return None
        if end - start >= self._limit:
            raise self.refuse(TOO_LONG, f"a line is longer than {self._limit} bytes")
        self._searched = 0
        if end + 1 == len(data):
            self._data = b""
            self._start = 0
        else:
            self._start = end + 1
        return data[start:end]
