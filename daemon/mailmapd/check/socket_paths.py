"""Sockets that main.cf asks, compared with those that mailmapd serves: paths as each program of Postfix sees them.

A program of Postfix runs in the queue directory, and a chrooted one sees nothing else, see
master(5). So ``socketmap:unix:mailmapd/socketmap:m`` is below the queue directory for all of them;
an absolute path is where it says for the others only. proxymap(8) is not chrooted. A socketmap
server of another kind is none of our business, and known by its address.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from mailmapd.check.finding import Finding, Level
from mailmapd.config.address import TcpAddress, UnixAddress
from mailmapd.config.schema import Config
from mailmapd.formats.main_cf import MainCf
from mailmapd.formats.map_list import SocketTable
from mailmapd.formats.master_cf import Service
from mailmapd.importers.postfix.parameter import Parameter
from mailmapd.sockets import access_list

_LOOPBACK = ("127.0.0.1", "::1", "[::1]", "localhost", "")
_OURS = "mailmapd"


def is_ours(table: SocketTable, config: Config, queue: str) -> bool:
    """Return whether a table asks mailmapd: by an address that it serves, or by one that can only be meant for it."""
    if table.path is not None:
        return (
            table.map in config.maps or _OURS in table.path or bool(_served(table, config, queue))
        )
    if any(_is_at(entry.address, table) for entry in config.listen.socketmap):
        return True
    return table.map in config.maps and table.host in _LOOPBACK


def _is_at(address: object, table: SocketTable) -> bool:
    if not isinstance(address, TcpAddress) or str(address.port) != table.port:
        return False
    host = table.host.strip("[]")
    return host in (address.host, "localhost") or address.host in ("0.0.0.0", "::")


def _served(table: SocketTable, config: Config, queue: str) -> set[str]:
    seen = {os.path.realpath(path) for path in _places(table.path or "", queue)}
    return seen & set(_listened(config))


def _places(path: str, queue: str) -> tuple[str, str]:
    """Return where a path is for a chrooted program, and for one that is not."""
    inside = str(Path(queue) / path.lstrip("/"))
    return inside, path if path.startswith("/") else inside


def _listened(config: Config) -> Iterator[str]:
    for entry in config.listen.socketmap:
        if isinstance(entry.address, UnixAddress):
            yield os.path.realpath(entry.address.path)


def path_findings(
    config: Config,
    queue: str,
    services: Iterable[Service],
    parameter: Parameter,
    table: SocketTable,
) -> Iterator[tuple[str, str, str]]:
    """Yield why a program of Postfix would not reach mailmapd by this table: a code, the problem and the remedy.

    `queue` is the queue directory.
    """
    if table.path is None:
        if not any(_is_at(entry.address, table) for entry in config.listen.socketmap):
            problem = f"asks {table.host}:{table.port}, where mailmapd does not listen"
            yield "socket_path", problem, _listen_remedy(config)
        return
    listened = list(_listened(config))
    inside, outside = _places(table.path, queue)
    chrooted, plain = _readers(services, parameter, proxied=table.proxied)
    served = os.path.realpath(outside) in listened
    if not served and (plain or inside == outside):
        problem = f"asks {outside}, where mailmapd does not listen"
        yield "socket_path", problem, _table_remedy(config, table, queue)
    elif chrooted and os.path.realpath(inside) not in listened:
        names = " and ".join(sorted(chrooted))
        problem = f"asks {outside}; {names}, chrooted in {queue}, would look for {inside}, where nobody listens"
        yield "socket_chroot", problem, _table_remedy(config, table, queue)


def _readers(
    services: Iterable[Service], parameter: Parameter, *, proxied: bool
) -> tuple[set[str], set[str]]:
    """Return the commands that read a parameter: the chrooted ones and the others."""
    if proxied:
        return set(), {"proxymap"}
    chrooted: set[str] = set()
    plain: set[str] = set()
    for service in services:
        if service.command in parameter.readers:
            (chrooted if service.chroot else plain).add(service.command)
    return chrooted, plain if chrooted else plain or set(parameter.readers)


def _table_remedy(config: Config, table: SocketTable, queue: str) -> str:
    """Return what to write: a table below the queue directory if mailmapd listens there, else the listener."""
    below = os.path.realpath(queue) + "/"
    for path in _listened(config):
        if path.startswith(below) and not table.proxied:
            return f"socketmap:unix:{path.removeprefix(below)}:{table.map}"
        if table.proxied:
            return f"proxy:socketmap:unix:{path}:{table.map}"
    listener = f'[listen] socketmap = ["unix:{queue}/mailmapd/socketmap"]'
    return f"{listener}, and in main.cf socketmap:unix:mailmapd/socketmap:{table.map}"


def _listen_remedy(config: Config) -> str:
    shown = ", ".join(str(entry.address) for entry in config.listen.socketmap)
    return f"mailmapd listens at {shown}" if shown else "add the address to [listen] socketmap"


def reach_findings(config: Config, main_cf: MainCf) -> Iterator[Finding]:
    """Yield the sockets that are there and that Postfix's own user may not connect to."""
    user = main_cf.value("mail_owner") or "postfix"
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return
    groups = {account.pw_gid, *(group.gr_gid for group in grp.getgrall() if user in group.gr_mem)}
    for path in _listened(config):
        closed = _closed(Path(path), account.pw_uid, groups)
        if closed is not None:
            problem = f"{user}, as whom Postfix's programs run, cannot connect: {closed}"
            remedy = 'write {address = "unix:%s", group = "%s"} for it in [listen] socketmap'
            group = grp.getgrgid(account.pw_gid).gr_name
            yield Finding(Level.FAULT, "socket_access", path, problem, remedy % (path, group))


def _closed(path: Path, uid: int, groups: set[int]) -> str | None:
    """Return what keeps a user from a socket, or None; a socket that is not there keeps nobody."""
    try:
        if not path.is_socket():
            return None
        if not _may(path, uid, groups, stat.S_IWOTH):
            return f"{path} is {_shown(path)}"
        for folder in reversed(path.parents):
            if not _may(folder, uid, groups, stat.S_IXOTH):
                return f"the folder {folder} is {_shown(folder)}"
    except OSError:
        return None
    return None


def _may(path: Path, uid: int, groups: set[int], bit: int) -> bool:
    about = path.stat()
    if uid in (0, about.st_uid):
        return uid == 0 or bool(about.st_mode & bit << 6)
    inside = about.st_gid in groups or not groups.isdisjoint(access_list.groups_of(str(path)))
    return bool(about.st_mode & (bit << 3 if inside else bit))


def _shown(path: Path) -> str:
    about = path.stat()
    return f"{_name(pwd.getpwuid, about.st_uid)}:{_name(grp.getgrgid, about.st_gid)} {stat.S_IMODE(about.st_mode):o}"


def _name(find: Callable[[int], Sequence[object]], number: int) -> str:
    try:
        return str(find(number)[0])
    except KeyError:
        return str(number)


def account_findings(config: Config) -> Iterator[Finding]:
    """Yield the owners and groups of [listen] that this host does not have."""
    listen = config.listen
    entries = [
        *listen.socketmap,
        *listen.dicts,
        *filter(None, (listen.http, listen.control, listen.lookup_http, listen.webhook)),
        *listen.tcp_table.values(),
    ]
    missing: dict[str, str] = {}
    for entry in entries:
        if entry.group is not None and not _exists(grp.getgrnam, entry.group):
            missing.setdefault(f"group {entry.group}", str(entry.address))
        if entry.owner is not None and not _exists(pwd.getpwnam, entry.owner):
            missing.setdefault(f"user {entry.owner}", str(entry.address))
    for name, address in missing.items():
        problem = f"there is no {name} on this host, so mailmapd cannot open the socket"
        remedy = "install what brings it (postfix, dovecot-core), or write another one"
        yield Finding(Level.FAULT, "no_account", f"listen: {address}", problem, remedy)


def _exists(find: Callable[[str], object], name: str) -> bool:
    if name.isdigit():
        return True
    try:
        find(name)
    except KeyError:
        return False
    return True
