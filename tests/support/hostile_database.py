"""A database server that means harm: it says what a test wants it to say, packet by packet.

    async def behave(peer: Peer) -> None:
        await peer.send(greeting())
        await peer.receive()
        ...

    async with hostile_database(behave) as port:
        ...

Every connection runs `behave`; the other side may leave at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

SALT = b"abcdefghijklmnopqrst"
OK = b"\0\0\0\2\0\0\0"
EOF = b"\xfe\0\0\2\0"
NATIVE, CACHING, SHA256 = b"mysql_native_password", b"caching_sha2_password", b"sha256_password"

CLIENT_SSL = 0x800
CAPABILITIES = 0x001FF7DF & ~CLIENT_SSL
"""What MySQL 8 offers, without TLS."""


class Peer:
    """The server's end of one connection: packets, numbered as the protocol has it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.number = 0
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on. Raises SSLError when the client does not like the certificate."""
        tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._exchange()
        self._tls = tls

    async def _exchange(self) -> None:
        """Send what TLS has to say, and hear more of it."""
        self.writer.write(self._outgoing.read())
        data = await self.reader.read(65_536)
        if not data:
            raise ConnectionResetError
        self._incoming.write(data)

    async def _read(self, count: int) -> bytes:
        if self._tls is None:
            return await self.reader.readexactly(count)
        data = b""
        while len(data) < count:
            try:
                data += self._tls.read(count - len(data))
            except ssl.SSLWantReadError:
                await self._exchange()
        return data

    async def send(self, *payloads: bytes) -> None:
        """Send packets in one piece."""
        for payload in payloads:
            packet = len(payload).to_bytes(3, "little") + bytes([self.number]) + payload
            if self._tls is not None:
                self._tls.write(packet)
                packet = self._outgoing.read()
            self.writer.write(packet)
            self.number = (self.number + 1) & 0xFF
        await self.writer.drain()

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self) -> bytes:
        """Return the payload of the next packet."""
        header = await self._read(4)
        self.number = (header[3] + 1) & 0xFF
        return await self._read(int.from_bytes(header[:3], "little"))

    async def log_in(self) -> None:
        """Let the client in without looking."""
        await self.send(greeting())
        await self.receive()
        await self.send(OK)

    async def command(self, *, settings: bool = True) -> bytes:
        """Return the next command's SQL; those that only make the session's settings are answered with OK."""
        while True:
            text = (await self.receive())[1:]
            if not (settings and text.startswith(b"SET ")):
                return text
            await self.send(OK)


Behaviour = Callable[[Peer], Awaitable[None]]


def greeting(
    plugin: bytes = NATIVE, capabilities: int = CAPABILITIES, version: bytes = b"9.1.0"
) -> bytes:
    """Return a greeting that names a login method and what the server can do."""
    low, high = capabilities & 0xFFFF, capabilities >> 16
    head = b"\x0a" + version + b"\0" + bytes(4) + SALT[:8] + b"\0"
    head += struct.pack("<HBHH", low, 0xFF, 2, high)
    return head + b"\x15" + bytes(10) + SALT[8:] + b"\0" + plugin + b"\0"


def switch_to(plugin: bytes) -> bytes:
    """Return the request to log in by another method."""
    return b"\xfe" + plugin + b"\0" + SALT + b"\0"


def column(name: bytes = b"value") -> bytes:
    """Return a column's definition."""
    return b"\x03def\0\0\0" + bytes([len(name)]) + name + b"\0\x0c\x2d\0\0\1\0\0\xfd\0\0\0\0\0"


@contextlib.asynccontextmanager
async def hostile_database(
    behave: Behaviour,
    *,
    address: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[int]:
    """Serve on a port of the address (0: any), which is yielded; what the behaviour gets wrong is raised at the end."""
    faults: list[Exception] = []
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await behave(Peer(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has left, as it may
        except Exception as fault:  # noqa: BLE001  # raised where the test sees it
            faults.append(fault)
        finally:
            writer.transport.abort()
            serving.discard(task)

    listener = await asyncio.start_server(serve, address, port)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
    if faults:
        raise faults[0]
