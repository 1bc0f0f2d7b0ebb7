"""Files and folders: secrets that others can read, sockets out of Postfix's reach, mail folders open to all."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from mailmapd.check.finding import Finding, Level
from mailmapd.config.address import UnixAddress
from mailmapd.config.schema import Config

_FOLDER = re.compile(r"['\"](/(?:[\w.-]+/)*[\w.-]+)/?['\"]")


def secret_findings(config: Config) -> Iterator[Finding]:
    """Yield every file with a password that others than its owner and group can read."""
    folder = Path(config.file).resolve().parent
    if any(database.password for database in config.databases.values()):
        yield from _readable(Path(config.file), "it holds a database's password")
    for database in config.databases.values():
        if database.password_file is not None:
            yield from _readable(folder / database.password_file, "it holds a database's password")
        if database.option_file is not None:
            yield from _readable(folder / database.option_file, "it may hold a database's password")
        if database.tls is not None and database.tls.key is not None:
            yield from _readable(folder / database.tls.key, "it is a private key")
    for table in config.tables.values():
        if table.postfix_cf is not None:
            yield from _readable(folder / table.postfix_cf, "it holds a database's password")
    for one in config.dicts.values():
        if one.dovecot_sql is not None:
            yield from _readable(folder / one.dovecot_sql, "it holds a database's password")


def _readable(path: Path, why: str) -> Iterator[Finding]:
    mode = _mode(path)
    if mode is not None and mode & stat.S_IROTH:
        yield Finding(
            Level.WARNING,
            "readable_secret",
            str(path),
            f"everybody can read it, and {why}",
            f"chmod o= {path}",
        )


def socket_findings(config: Config) -> Iterator[Finding]:
    """Yield every UNIX socket whose folder is missing, and what would have no socket or nothing to answer."""
    listen = config.listen
    entries = [
        *listen.socketmap,
        *listen.dicts,
        *filter(None, (listen.http, listen.control, listen.lookup_http)),
        *listen.tcp_table.values(),
    ]
    if not entries:
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
    for entry in entries:
        address = entry.address
        if isinstance(address, UnixAddress) and not Path(address.path).parent.is_dir():
            folder = Path(address.path).parent
            yield Finding(
                Level.WARNING,
                "socket_folder",
                str(address),
                f"{folder} does not exist",
                "systemd-tmpfiles --create, or make it",
            )


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
    try:
        return path.stat().st_mode
    except OSError:
        return None
