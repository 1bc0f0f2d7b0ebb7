"""Opening sockets to listen on.

Who may connect is settled before the first client can, and a living daemon's socket is never taken away.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mailmapd.config.address import TcpAddress, UnixAddress
from mailmapd.config.schema import ListenAddress
from mailmapd.sockets import access_list

DEFAULT_MODE = 0o660
ACCOUNT_REMEDY = "create it, install the program that brings it, or name one that getent(1) knows"


class UnknownAccount(OSError):
    """There is no user or group of a configured name."""


class NoSocket(OSError):
    """A file that is no socket is where the socket should be."""


def bind_socket(entry: ListenAddress, default_mode: int = DEFAULT_MODE) -> socket.socket:
    """Return a bound socket that does not listen yet, with its owner, group and mode set.

    Raises OSError with a plain text.
    """
    if isinstance(entry.address, TcpAddress):
        return _bind_tcp(entry.address)
    return _bind_unix(entry.address, entry, default_mode)


def _bind_tcp(address: TcpAddress) -> socket.socket:
    bound = socket.socket(
        socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM
    )
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address.host, address.port))
    except OSError as error:
        bound.close()
        raise OSError(
            error.errno, f"cannot listen on {address}: {os.strerror(error.errno or 0)}"
        ) from error
    return bound


def _bind_unix(address: UnixAddress, entry: ListenAddress, default_mode: int) -> socket.socket:
    path = address.path
    _user_id(entry.owner)
    _group_id(entry.group)
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    has_file = False
    try:
        # Nobody can connect until owner and mode are right; nor before listen() is called
        before = os.umask(0o777)
        try:
            bound.bind(path)
            has_file = True
        finally:
            os.umask(before)
        set_access(path, entry, default_mode)
    except OSError as error:
        bound.close()
        if has_file:
            # With the wrong owner, it would be in the way of the next attempt
            Path(path).unlink(missing_ok=True)
        raise OSError(
            error.errno, f"cannot listen on {address}: {os.strerror(error.errno or 0)}"
        ) from error
    return bound


def set_access(path: str, entry: ListenAddress, default_mode: int = DEFAULT_MODE) -> None:
    """Give a socket file its owner, group and mode; an owner or group that is not configured stays. Raises OSError.

    Where this process may not give the file away, its access list lets the owner and group in.
    """
    owner, group = _user_id(entry.owner), _group_id(entry.group)
    mode = default_mode if entry.mode is None else entry.mode
    with _held(path) as file:
        found = Path(file).stat()
        access_list.forget(file)
        owner = -1 if owner == found.st_uid else owner
        group = -1 if group == found.st_gid else group  # right already in a setgid folder
        if (owner, group) != (-1, -1):
            try:
                os.chown(file, owner, group)
            except PermissionError:
                Path(file).chmod(mode)
                access_list.let_in(file, mode, user=owner, group=group)
                return
        Path(file).chmod(mode)


@contextmanager
def _held(path: str) -> Iterator[str]:
    """Give a path to a socket file that leads to no other file, whatever happens in its folder.

    Others may write there, as the user postfix does in its queue: a link in the socket's place would have root give
    away a file of its own. Raises OSError.
    """
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise NoSocket(errno.ENOTSOCK, f"{path} is no socket any more")
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def account_exists(kind: str, name: str) -> bool:
    """Return whether there is a ``user`` or ``group`` of this name or number."""
    try:
        _user_id(name) if kind == "user" else _group_id(name)
    except UnknownAccount:
        return False
    return True


def _user_id(name: str | None) -> int:
    if name is None:
        return -1
    try:
        return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise UnknownAccount(errno.EINVAL, f'there is no user "{name}"') from None


def _group_id(name: str | None) -> int:
    if name is None:
        return -1
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise UnknownAccount(errno.EINVAL, f'there is no group "{name}"') from None


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens on; raise OSError when somebody does, or when the file is no socket."""
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise NoSocket(errno.EEXIST, f"{path} exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            if error.errno != errno.EAGAIN:  # EAGAIN: a full backlog, so somebody listens
                raise
        raise OSError(errno.EADDRINUSE, f"{path} is served by a running process")
