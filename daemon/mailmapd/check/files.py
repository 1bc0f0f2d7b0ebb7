"""Files and folders: secrets that others can read, sockets out of Postfix's reach, mail folders open to all."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from mailmapd.check.files_read import FileRead
from mailmapd.check.finding import Finding, Level
from mailmapd.config.address import UnixAddress
from mailmapd.config.schema import Config
from mailmapd.sockets.binding import ACCOUNT_REMEDY, account_exists
from mailmapd.sockets.opening import Wanted, wanted_sockets
from mailmapd.sockets.units import socket_unit

_ACCOUNT = "mailmapd"
_ACCOUNTS = (_ACCOUNT, "postfix", "dovecot", "mysql")
_FOR_OTHERS = stat.S_IROTH | stat.S_IWOTH
_FOLDER = re.compile(r"['\"](/(?:[\w.-]+/)*[\w.-]+)/?['\"]")


def trusted_owners(config: Config) -> set[int]:
    """Return the user ids that may own a secret's file: root, who asks, the configuration's owner and the daemons'."""
    trusted = {0, os.geteuid()}
    status = _status(Path(config.file))
    if status is not None:
        trusted.add(status.st_uid)
    for name in _ACCOUNTS:
        with suppress(KeyError):  # not on this host
            trusted.add(pwd.getpwnam(name).pw_uid)
    return trusted


def secret_findings(files: Iterable[FileRead], trusted: Collection[int]) -> Iterator[Finding]:
    """Yield every file with a secret that is open to others, or that belongs to none of the `trusted` user ids."""
    for path, why in {file.path: file.why_closed for file in files if file.why_closed}.items():
        status = _status(path)
        if status is None:
            continue
        where, name = str(path), shlex.quote(str(path))
        if status.st_mode & _FOR_OTHERS:
            what = "read it" if status.st_mode & stat.S_IROTH else "write it"
            problem = f"everybody can {what}, and {why}"
            yield Finding(Level.WARNING, "readable_secret", where, problem, f"chmod o= {name}")
        if status.st_uid not in trusted:
            problem = (
                f"it belongs to {_account(status.st_uid)}, who can read it and change it, and {why}"
            )
            yield Finding(Level.WARNING, "foreign_secret", where, problem, f"chown root {name}")


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"


def socket_findings(config: Config, account: str = _ACCOUNT) -> Iterator[Finding]:
    """Yield every UNIX socket that `account` could not open, and what would have no socket or nothing to answer."""
    listen = config.listen
    if all(wanted.optional for wanted in wanted_sockets(config)):
        remedy = 'write socketmap = ["unix:/var/spool/postfix/mailmapd/socketmap"] below [listen]'
        yield Finding(
            Level.FAULT,
            "no_listener",
            config.file,
            "[listen] names no address, so serve would refuse it",
            remedy,
        )
    if (listen.socketmap or listen.tcp_table) and not config.maps:
        yield Finding(
            Level.FAULT,
            "no_map",
            config.file,
            "there is no [map.NAME], so every lookup of Postfix would fail",
            "add the maps",
        )
    if (listen.dicts or listen.lookup_http) and not config.dicts:
        yield Finding(
            Level.FAULT,
            "no_dict",
            config.file,
            "there is no [dict.NAME], so every lookup of Dovecot would fail",
            "add the dict",
        )
    for wanted in wanted_sockets(config):
        if isinstance(wanted.entry.address, UnixAddress) and not wanted.optional:
            yield from _unopenable(wanted, wanted.entry.address, account)


def _unopenable(wanted: Wanted, address: UnixAddress, account: str) -> Iterator[Finding]:
    """Yield why the daemon could not open a UNIX socket, as far as it can be seen from here."""
    path = Path(address.path)
    folder = path.parent
    if not folder.is_dir():
        problem, remedy = f"{folder} does not exist", "systemd-tmpfiles --create, or make it"
        yield Finding(Level.WARNING, "socket_folder", str(address), problem, remedy)
        return
    mode = _mode(path)
    if mode is not None and not stat.S_ISSOCK(mode):
        problem, remedy = f"{path} is no socket", "move that file away, or choose another address"
        yield Finding(Level.FAULT, "no_socket", str(address), problem, remedy)
    elif mode is None and not _may_write(account, folder):
        unit = socket_unit(wanted.name)
        yield Finding(
            Level.WARNING,
            "socket_folder_closed",
            str(address),
            f"the account {account} may make no socket in {folder}",
            f"let systemd open it: systemctl enable {unit}, then systemctl restart mailmapd.service",
        )
    for name in wanted.entry.peers:
        if not account_exists("user", name):
            problem = f'peers: there is no user "{name}", so none of its processes can connect'
            yield Finding(Level.WARNING, "unknown_account", str(address), problem, ACCOUNT_REMEDY)


def _may_write(name: str, folder: Path) -> bool:
    """Return whether an account may make files in a folder; true if there is no such account."""
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        return True
    found = folder.stat()
    bits = found.st_mode
    if found.st_uid == account.pw_uid:
        bits = found.st_mode >> 6
    elif found.st_gid in os.getgrouplist(name, account.pw_gid):
        bits = found.st_mode >> 3
    return bits & 3 == 3  # write and search


def folder_findings(texts: Iterable[str], where: str) -> Iterator[Finding]:
    """Yield the folders in texts (queries, main.cf values) that everybody may write to."""
    for path in dict.fromkeys(match for text in texts for match in _FOLDER.findall(text)):
        yield from open_folder(Path(path), where)


def open_folder(path: Path, where: str) -> Iterator[Finding]:
    """Yield a finding when a folder is open to everybody's writing, without the sticky bit of /tmp."""
    mode = _mode(path)
    if mode is not None and stat.S_ISDIR(mode) and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        problem = f"{path} has mode {stat.S_IMODE(mode):o}: every account can read, change and delete mail"
        yield Finding(
            Level.FAULT,
            "open_folder",
            where,
            problem,
            f"chmod -R o= {path}; chown -R vmail:vmail {path}",
        )


def _mode(path: Path) -> int | None:
    status = _status(path)
    return None if status is None else status.st_mode


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
