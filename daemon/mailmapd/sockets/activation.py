"""Sockets handed over by systemd, see sd_listen_fds(3) and systemd.socket(5).

A handed-over socket serves the configured address it is bound to.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from mailmapd.config.address import Address, TcpAddress, UnixAddress

_FIRST = 3  # SD_LISTEN_FDS_START


def take_sockets(
    environment: MutableMapping[str, str] = os.environ,
) -> dict[Address, socket.socket]:
    """Return the sockets handed to this process, by address, and hide them from its children."""
    count, pid = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
    environment.pop("LISTEN_FDNAMES", None)
    if not count.isdigit() or pid != str(os.getpid()):
        return {}
    sockets = {}
    for descriptor in range(_FIRST, _FIRST + int(count)):
        os.set_inheritable(descriptor, False)
        bound = socket.socket(fileno=descriptor)
        bound.setblocking(False)
        sockets[_address(bound)] = bound
    return sockets


def _address(bound: socket.socket) -> Address:
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return UnixAddress(os.fsdecode(name))
    return TcpAddress(name[0], name[1])
