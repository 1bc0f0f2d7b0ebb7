"""A TCP proxy that can swallow what it carries: the network between a client and its server, under a test's control.

with Proxy(server.port) as proxy:
    …connect to 127.0.0.1, proxy.port…
    proxy.swallow()     # nothing is forwarded and nobody is told, as behind a firewall that drops packets
    proxy.forward()     # what was held back goes on, as TCP sends lost packets again
    proxy.cut()         # every connection is reset
    proxy.aim(port)     # new connections reach another server, as behind an address that moves
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

BLOCK = 65536  # bytes read at once
BACKLOG = 512


class Proxy:
    """Forwards connections from a loopback port of its own to a port of 127.0.0.1, in a thread of its own."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._open = asyncio.Event()
        self._answering = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tell(self._stop.set)
        self._thread.join()

    def swallow(self) -> None:
        """Forward nothing from now on; new connections are accepted and hear nothing."""
        self._tell(self._open.clear)

    def swallow_answers(self) -> None:
        """Forward what clients send, and nothing of what the server says."""
        self._tell(self._answering.clear)

    def forward(self) -> None:
        """Forward again, first of all what was held back."""
        self._tell(self._open.set)
        self._tell(self._answering.set)

    def aim(self, target: int) -> None:
        """Have new connections reach another server; those that are there stay where they are."""
        self._target = target

    def cut(self) -> None:
        """Reset every connection."""
        self._tell(self._abort)

    def _tell(self, act: Callable[[], None]) -> None:
        done = threading.Event()

        def perform() -> None:
            act()
            done.set()

        self._loop.call_soon_threadsafe(perform)
        done.wait()

    def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._open.set()
        self._answering.set()
        server = await asyncio.start_server(self._client, "127.0.0.1", 0, backlog=BACKLOG)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        self._abort()
        self._open.set()
        self._answering.set()
        while self._writers:  # noqa: ASYNC110 (each ends by itself, now that its connection is gone)
            await asyncio.sleep(0.01)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._open.wait()
            upstream_reader, upstream_writer = await asyncio.open_connection(
                "127.0.0.1", self._target
            )
            self._writers.add(upstream_writer)
            try:
                await asyncio.gather(
                    self._pump(reader, upstream_writer, self._open),
                    self._pump(upstream_reader, writer, self._answering),
                )
            finally:
                upstream_writer.transport.abort()
                self._writers.discard(upstream_writer)
        except OSError:
            pass  # either side is gone, which ends the other
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: asyncio.Event
    ) -> None:
        while True:
            await self._open.wait()
            data = await reader.read(BLOCK)
            await self._open.wait()
            await way.wait()
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()
