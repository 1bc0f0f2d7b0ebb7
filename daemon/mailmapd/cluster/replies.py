r"""Replies of the server, of which no more is kept than a reply of ours can have.

Whoever may write the stream may write a message of half a gigabyte, or a hundred thousand fields, and every host would
read it before it could see that it is none. So a value that is too long is passed over as it comes, and OVERLONG stands
in its place; so it does for what comes after the first megabytes of a reply; and of an array no more elements are kept
than one of ours has: of a reply as a whole `MOST_KEPT`, of an array far inside of it `MOST_INSIDE`. Lookups have their
turn after every few elements, however many have come at once; a reply without end is cut off by the deadline of its
command.

redis-py's own parser of RESP2 has no such limits; this one is that one, but for them:

    +simple\r\n   -error\r\n   :7\r\n   $5\r\nvalue\r\n   *2\r\n…          https://valkey.io/topics/protocol/
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis._parsers import _AsyncRESP2Parser
from redis.exceptions import ConnectionError as ConnectionFailed
from redis.exceptions import InvalidResponse

from mailmapd.cluster.message import MOST_BYTES, OVERLONG

MOST_ELEMENTS = 2048  # of an array: two for each host, the longest of ours
MOST_KEPT = 16_384  # elements of a reply, in all of its arrays
MOST_INSIDE = (
    16  # elements of an array at DEEP or below: the fields of a message, of which ours has four
)
_DEEP = 5  # arrays around the elements of such a one: a reply, a stream, its messages, one of them, its fields
_DEEPEST = 16  # arrays that are around any value
_ROOM = 8 * 1024 * 1024  # bytes of values that are kept of a reply
_SHORT = 64  # bytes of a value that is kept all the same, as an id
_LONGEST_ERROR = 500  # bytes that are kept of an error
_TURN = 64  # elements that are read in a row, in about a tenth of a millisecond
_LONGEST_INFO = 64 * 1024  # bytes, and …
_MOST_FACTS = 1000  # … lines, of what the server says of itself
_END = len(b"\r\n")
_PIECE = 64 * 1024  # bytes that are passed over at a time; lookups have their turn between two


class Replies(_AsyncRESP2Parser):  # type: ignore[misc]
    """Reads the replies of one connection, which redis-py ends when one was not read to its end."""

    __slots__ = ("_kept", "_read_in_a_row", "_room")

    async def read_response(self, disable_decoding: bool = False) -> Any:  # noqa: ARG002 (redis-py's)
        """Return the next reply as bytes. Raises redis-py's errors, for what is no reply, too."""
        self._room, self._kept, self._read_in_a_row = _ROOM, 0, 0
        try:
            reply = await self._reply(0, kept=True)
        except (ValueError, RecursionError) as error:
            raise InvalidResponse(f"no reply of Valkey or Redis: {error!s:.100}") from error
        except EOFError as error:
            raise ConnectionFailed("the connection was closed in the middle of a reply") from error
        if isinstance(reply, ConnectionFailed):
            raise reply
        return reply

    async def _reply(self, depth: int, *, kept: bool) -> Any:
        """Return a value with `depth` arrays around it. Of one that is not kept it does not matter which."""
        line = await self._stream.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError
        await self._give_turns()
        kind, said = line[:1], line[1:-2]
        match kind:
            case b"$" | b"*" if said == b"-1":
                return None
            case b"$":
                return await self._value(int(said), kept=kept)
            case b"*":
                return await self._array(int(said), depth + 1, kept=kept)
            case b":":
                return int(said)
            case b"+":
                return self._word(said) if kept else OVERLONG
            case b"-":
                return self.parse_error(said[:_LONGEST_ERROR].decode("utf-8", "replace"))
            case _:
                raise ValueError(line[:100])

    async def _give_turns(self) -> None:
        """Let lookups have their turn now and then: what is here already is read without a pause."""
        self._read_in_a_row += 1
        if self._read_in_a_row >= _TURN:
            self._read_in_a_row = 0
            await asyncio.sleep(0)

    async def _array(self, length: int, depth: int, *, kept: bool) -> list[Any]:
        if depth > _DEEPEST:
            raise ValueError("too many arrays within each other")
        most = MOST_ELEMENTS if depth < _DEEP else MOST_INSIDE
        found: list[Any] = []
        for _ in range(length):
            keep = kept and len(found) < most and self._kept < MOST_KEPT
            self._kept += keep
            element = await self._reply(depth, kept=keep)
            if keep:
                found.append(element)
        return found

    def _word(self, said: bytes) -> bytes:
        if len(said) > max(_SHORT, self._room):
            return OVERLONG
        self._room -= len(said)
        return said

    async def _value(self, length: int, *, kept: bool) -> bytes:
        if not kept or (length > _SHORT and (length > MOST_BYTES or length > self._room)):
            await self._pass_over(length + _END)
            return OVERLONG
        self._room -= length
        value: bytes = await self._stream.readexactly(length + _END)
        return value[:-_END]

    async def _pass_over(self, length: int) -> None:
        while length > 0:
            data = await self._stream.read(min(length, _PIECE))
            if not data:
                raise EOFError
            length -= len(data)


def facts(said: bytes) -> dict[str, str]:
    """Return what a server says of itself, by name. The library's own way takes as long as the text is."""
    if len(said) > _LONGEST_INFO:
        raise ValueError("too long")
    lines = said.decode("utf-8", "replace").split("\r\n", _MOST_FACTS)[:_MOST_FACTS]
    return {name: value for name, _, value in (line.partition(":") for line in lines)}
