r"""Replies of the server, of which no more is kept than a reply of ours can have.

Whoever may write the stream may write a message of half a gigabyte, or a hundred thousand fields, and every host would
read it before it could see that it is none. So a value that is too long is passed over as it comes, and OVERLONG stands
in its place; so it does for what comes after the first megabytes of a reply; and of an array no more elements are kept
than one of ours has.

redis-py's own parser of RESP2 has no such limits; this one is that one, but for them:

    +simple\r\n   -error\r\n   :7\r\n   $5\r\nvalue\r\n   *2\r\n…          https://valkey.io/topics/protocol/
"""

from __future__ import annotations

from typing import Any

from redis._parsers import _AsyncRESP2Parser
from redis.exceptions import ConnectionError as ConnectionFailed
from redis.exceptions import InvalidResponse

from mailmapd.cluster.message import MOST_BYTES, OVERLONG

MOST_ELEMENTS = 2048  # of an array: two for each host, the longest of ours
_ROOM = 8 * 1024 * 1024  # bytes of values that are kept of a reply
_SHORT = 64  # bytes of a value that is kept all the same, as an id
_END = len(b"\r\n")
_PIECE = 64 * 1024  # bytes that are passed over at a time; lookups have their turn between two


class Replies(_AsyncRESP2Parser):  # type: ignore[misc]
    """Reads the replies of one connection, which redis-py ends when one was not read to its end."""

    __slots__ = ("_room",)

    async def read_response(self, disable_decoding: bool = False) -> Any:  # noqa: ARG002 (redis-py's)
        """Return the next reply as bytes. Raises redis-py's errors, for what is no reply, too."""
        self._room = _ROOM
        try:
            reply = await self._reply()
        except (ValueError, RecursionError) as error:
            raise InvalidResponse(f"no reply of Valkey or Redis: {error!s:.100}") from error
        except EOFError as error:
            raise ConnectionFailed("the connection was closed in the middle of a reply") from error
        if isinstance(reply, ConnectionFailed):
            raise reply
        return reply

    async def _reply(self) -> Any:
        line = await self._stream.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError
        kind, said = line[:1], line[1:-2]
        match kind:
            case b"$" | b"*" if said == b"-1":
                return None
            case b"$":
                return await self._value(int(said))
            case b"*":
                return await self._array(int(said))
            case b":":
                return int(said)
            case b"+":
                return said
            case b"-":
                return self.parse_error(said.decode("utf-8", "replace"))
            case _:
                raise ValueError(line[:100])

    async def _array(self, length: int) -> list[Any]:
        found = []
        for place in range(length):
            element = await self._reply()
            if place < MOST_ELEMENTS:
                found.append(element)
        return found

    async def _value(self, length: int) -> bytes:
        if length > _SHORT and (length > MOST_BYTES or length > self._room):
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
