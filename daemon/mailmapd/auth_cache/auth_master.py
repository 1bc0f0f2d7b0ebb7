"""A connection to Dovecot's auth-master socket that has its auth cache forget.

    VERSION 1 1                       both sides, at the start; Dovecot also says SPID …
    CACHE-FLUSH 1 NAME NAME …         OK 1 COUNT, or FAIL 1; without names: everything

Words are separated by TAB and tab-escaped. Dovecot 2.3 ends a connection that sends a line of 1024 bytes and more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from mailmapd.errors import MailmapdError
from mailmapd.protocols.tab_escape import escape, split

_ANSWER = 3.0  # seconds in which Dovecot answers
_LONGEST = 1000  # bytes of a line
LONGEST_NAME = 900  # bytes of a name, escaped, that fits into a line


class AuthMasterError(MailmapdError):
    """Dovecot did not do it; the text names its socket, and says why."""


class AuthMaster:
    """A connection to the socket at `path`, made when it is needed. Raises AuthMasterError and nothing else."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._number = 0

    @property
    def is_open(self) -> bool:
        """Return whether there is a connection."""
        return self._streams is not None

    def close(self) -> None:
        """End the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def flush(self, names: Sequence[bytes] | None) -> int:
        """Have the names forgotten, or everything; return how many entries there were."""
        count = 0
        try:
            async with asyncio.timeout(_ANSWER):
                reader, writer = await self._open()
                for line in [b""] if names is None else _lines(names):
                    count += await self._ask(reader, writer, line)
        except TimeoutError:
            self.close()
            raise AuthMasterError(f"{self._path}: no answer for {_ANSWER:g} s") from None
        except OSError as error:
            self.close()
            raise AuthMasterError(f"{self._path}: {error.strerror or error}") from error
        except ValueError:
            self.close()
            text = f"{self._path}: an answer that is none of Dovecot's"
            raise AuthMasterError(text) from None
        except BaseException:
            self.close()
            raise
        return count

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(self._path)
            self._streams[1].write(b"VERSION\t1\t1\n")
        return self._streams

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, names: bytes
    ) -> int:
        self._number += 1
        number = b"%d" % self._number
        writer.write(b"CACHE-FLUSH\t%b%b\n" % (number, names))
        await writer.drain()
        while True:
            line = await reader.readline()
            if not line.endswith(b"\n"):
                raise AuthMasterError(f"{self._path}: Dovecot closed the connection")
            words = split(line[:-1])
            if words[:2] == [b"OK", number]:
                return int(words[2]) if len(words) > 2 and words[2].isdigit() else 0
            if words[:2] == [b"FAIL", number]:
                raise AuthMasterError(f"{self._path}: Dovecot has no auth cache, or refuses")


def _lines(names: Iterable[bytes]) -> Iterator[bytes]:
    """Yield names, each behind a TAB, as many as fit into a line."""
    line = b""
    for name in names:
        word = b"\t" + escape(name)
        if line and len(line) + len(word) > _LONGEST - 40:
            yield line
            line = b""
        line += word
    if line:
        yield line
