"""Peers: whose processes may connect to a UNIX socket, as the kernel tells (SO_PEERCRED, unix(7)). Root always may."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import pwd
import socket
import struct
from collections.abc import Iterable

log = logging.getLogger(__name__)

_UCRED = struct.Struct("iII")  # struct ucred of unix(7): pid, uid, gid


def peer_of(transport: asyncio.BaseTransport) -> object:
    """Return who is at the other end, as far as the kernel tells: a user, or an address; None when it has gone.

    Of IPv6 that is the first half of an address: whoever has one has 2^64 of them.
    """
    connection = transport.get_extra_info("socket")
    if connection is None:
        return None
    if connection.family == socket.AF_UNIX:
        return _credentials(connection)[1]
    address = transport.get_extra_info("peername")
    return _network(address[0]) if address else None


def _network(address: str) -> str:
    """Return what an address has in common with those that one client may choose among."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


class Peers:
    """The users of a `peers` setting (names or numeric ids).

    An empty one lets everybody in whom the socket's mode lets in.
    """

    def __init__(self, users: Iterable[str]) -> None:
        self._ids = {_user_id(user) for user in users}

    def __bool__(self) -> bool:
        return bool(self._ids)

    def refusal(self, connection: socket.socket) -> str:
        """Return who is at the other end of a connected UNIX socket, for the log, if it is nobody of these.

        Else an empty text.
        """
        pid, uid = _credentials(connection)
        return (
            "" if not self._ids or uid == 0 or uid in self._ids else f"process {pid} of user {uid}"
        )


def _credentials(connection: socket.socket) -> tuple[int, int]:
    """Return the process id and the user id."""
    pid, uid, _ = _UCRED.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    )
    return pid, uid


def _user_id(user: str) -> int:
    if user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        log.warning("peers: there is no user %s, so none of its processes can connect", user)
        return -1
