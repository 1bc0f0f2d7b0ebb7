"""The gate: who may control the daemon, as the kernel tells (SO_PEERCRED and SO_PEERGROUPS, unix(7)).

Root, the daemon's own user, the members of the socket's group, and the users that `listen.control`
names as peers. The socket's mode says nearly the same; this holds when somebody opened that mode by
mistake.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from pathlib import Path

from mailmapd.sockets import access_list
from mailmapd.sockets.peers import Peers

_UCRED = struct.Struct("iII")  # struct ucred of unix(7): pid, uid, gid
_SO_PEERGROUPS = 59  # since Linux 4.13; the socket module has no name for it
_LONGEST_OPTION = 1024  # bytes that Python's getsockopt can take: 256 groups


class Gate:
    """Decides about who connected to the UNIX socket at `path`."""

    def __init__(self, path: str, peers: Peers) -> None:
        self._groups = {Path(path).stat().st_gid, *access_list.groups_of(path)}
        self._peers = peers

    def refusal(self, connection: socket.socket) -> str:
        """Return why the process at the other end may not control the daemon, or an empty text when it may."""
        _, uid, gid = _UCRED.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        )
        if (
            uid in (0, os.geteuid())
            or gid in self._groups
            or not self._groups.isdisjoint(_groups(connection, uid, gid))
        ):
            return ""
        if self._peers and not self._peers.refusal(connection):
            return ""
        groups = " or ".join(sorted(map(_group_name, self._groups)))
        return (
            f"user {_user_name(uid)} may not control mailmapd; root may, and the members of "
            f"the group {groups}"
        )


def _groups(connection: socket.socket, uid: int, gid: int) -> list[int]:
    """Return the supplementary groups of the process that connected."""
    try:
        groups = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _LONGEST_OPTION)
    except OSError:  # an old kernel, or too many groups: ask the account database
        try:
            return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
        except KeyError:
            return []
    return [number for (number,) in struct.iter_unpack("I", groups)]


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
