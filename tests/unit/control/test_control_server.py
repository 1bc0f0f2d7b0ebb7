from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any, cast

import pytest

from mailmapd.control.server import IDLE_TIMEOUT, MAX_CLIENTS, ControlServer
from mailmapd.sockets.gate import Gate
from mailmapd.sockets.peers import Peers
from support.clock import FakeClock
from support.polling import until
from support.strangers import connect_as_nobody, heard

DAEMON = 1  # a group


class Quiet:
    """A daemon of which only figures are asked."""

    def stats(self) -> dict[str, object]:
        """Return none."""
        return {}


@pytest.mark.root
async def test_who_may_not_ask_takes_no_place(short_path: Path) -> None:
    """Accounts without permission take no place, are told so when they ask, and are hung up on when they do not."""
    path = str(short_path / "control")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(path)
    os.chown(path, 0, DAEMON)
    server = ControlServer(bound, Gate(path, Peers(())), cast("Any", Quiet()), FakeClock())
    await server.start()
    strangers = connect_as_nobody(short_path / "control", MAX_CLIENTS)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b'{"do": "stats"}\n')
    assert json.loads(await reader.readline())["ok"] is True
    strangers[0].sendall(b'{"do": "stats"}\n')
    await until(lambda: len(server.clients.all) == 1)
    told = [await asyncio.to_thread(heard, client) for client in strangers]
    assert b"may not control mailmapd" in told[0]
    assert set(told[1:]) == {b""}
    writer.close()
    await server.close()


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
