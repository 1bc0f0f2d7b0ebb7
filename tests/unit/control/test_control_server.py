from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any, cast

from mailmapd.control.server import IDLE_TIMEOUT, ControlServer
from mailmapd.sockets.gate import Gate
from mailmapd.sockets.peers import Peers
from support.clock import FakeClock
from support.polling import until


class Quiet:
    """A daemon of which only figures are asked."""

    def stats(self) -> dict[str, object]:
        """Return none."""
        return {}


async def test_silent_client(short_path: Path) -> None:
    """A client that asks nothing for IDLE_TIMEOUT is closed; one that asks now and then stays."""
    path, clock = str(short_path / "control"), FakeClock()
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(path)
    server = ControlServer(bound, Gate(path, Peers(())), cast("Any", Quiet()), clock)
    await server.start()
    silent, silent_writer = await asyncio.open_unix_connection(path)
    reader, writer = await asyncio.open_unix_connection(path)
    await until(lambda: len(server.clients.all) == 2)
    for _ in range(2):
        clock.now += IDLE_TIMEOUT * 0.7
        writer.write(b'{"do": "stats"}\n')
        assert await reader.readline()
        server.clients.sweep()
    assert await silent.read() == b""
    silent_writer.close()
    writer.write(b'{"do": "stats"}\n')
    assert await reader.readline()
    writer.close()
    await writer.wait_closed()
    await server.close()
