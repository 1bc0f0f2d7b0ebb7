"""Every file that the daemon reads: those that the configuration names, and those that these name in turn."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mailmapd.config.files import path_beside, values_of
from mailmapd.config.schema import Config, FileName, FileWithSecret, Secret, SecretFile
from mailmapd.config.secrets import locate_secret
from mailmapd.databases.host_list import parse_hosts
from mailmapd.databases.mysql.account import account_for
from mailmapd.databases.settings import MysqlSettings, TlsSettings
from mailmapd.errors import DatabaseUnavailable
from mailmapd.plan.databases import Settings

_HOLDS_SECRET = "it holds a secret"  # noqa: S105 - a reason
_MAY_HOLD_PASSWORD = "it may hold a database's password"  # noqa: S105 - a reason
_PRIVATE_KEY = "it is a private key"


@dataclass(frozen=True, slots=True)
class FileRead:
    """A file, the key or the database that it is for, and why nobody else may read it, if that is so."""

    where: str
    path: Path
    why_closed: str = ""


def files_read(
    config: Config,
    databases: Mapping[str, Settings],
    environment: Mapping[str, str] = os.environ,
) -> Iterator[FileRead]:
    """Yield every file, the configuration first; `databases` are those of its plan."""
    seen: set[Path] = set()
    for file in _named(config, environment):
        seen.add(file.path)
        yield file
    for file in _named_by_settings(databases):
        if file.path not in seen:
            seen.add(file.path)
            yield file


def _named(config: Config, environment: Mapping[str, str]) -> Iterator[FileRead]:
    own = "" if next(values_of(config, Secret), None) is None else _HOLDS_SECRET
    yield FileRead(config.file, Path(config.file).absolute(), own)
    for where, file in values_of(config, FileName):
        if isinstance(file, SecretFile):
            yield FileRead(where, locate_secret(config.file, file, environment), _HOLDS_SECRET)
        elif isinstance(file, FileWithSecret):
            why = _PRIVATE_KEY if where.endswith("tls.key") else _MAY_HOLD_PASSWORD
            yield FileRead(where, path_beside(config.file, file), why)
        else:
            yield FileRead(where, path_beside(config.file, file))


def _named_by_settings(databases: Mapping[str, Settings]) -> Iterator[FileRead]:
    """Yield what .cf files, Dovecot's SQL files and option files name."""
    for name, settings in databases.items():
        if not isinstance(settings, MysqlSettings):
            continue
        where = f"database {name}"
        if settings.option_file is not None:
            yield FileRead(where, Path(settings.option_file), _MAY_HOLD_PASSWORD)
        for host in parse_hosts(settings.hosts):
            try:
                tls = account_for(host, settings)[1].tls
            except DatabaseUnavailable:  # the login itself says so
                tls = settings.tls
            yield from _of_tls(where, tls)


def _of_tls(where: str, tls: TlsSettings | None) -> Iterator[FileRead]:
    if tls is None:
        return
    if tls.key:
        yield FileRead(where, Path(tls.key), _PRIVATE_KEY)
    for file in (tls.ca, tls.ca_path, tls.cert):
        if file:
            yield FileRead(where, Path(file))
