"""Connections of an account without rights to a UNIX socket, made by this process."""

from __future__ import annotations

import os
import socket
from pathlib import Path

NOBODY = 65534


def connect_as_nobody(path: Path, count: int, user: int = NOBODY) -> list[socket.socket]:
    """Return connections to a socket whose mode lets everybody in, of a user of the group `NOBODY`."""
    path.chmod(0o666)
    path.parent.chmod(0o711)
    clients = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    os.setegid(NOBODY)
    os.seteuid(user)
    try:
        for client in clients:
            client.settimeout(5)
            client.connect(str(path))
    finally:
        os.seteuid(0)
        os.setegid(0)
    return clients


def heard(client: socket.socket) -> bytes:
    """Return all that a client is told until the end of its connection."""
    with client:
        try:
            return b"".join(iter(lambda: client.recv(1000), b""))
        except ConnectionResetError:
            return b""
