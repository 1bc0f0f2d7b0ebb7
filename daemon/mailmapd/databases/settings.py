"""Settings of each kind of database, as plain checked values. Times are in seconds; passwords never show in a repr.

What is not said is as in `[database.NAME]`, whose class in `config.schema` has the one copy of every default: a .cf
file of Postfix, which knows no pool size, gets the same as a section that names none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import attrs

from mailmapd.config.schema import DatabaseSection

_SECTION = attrs.fields_dict(DatabaseSection)
_MOST_READERS = 4
"""Threads that read one SQLite file: more only wait for each other under Python's lock."""


def _default(name: str) -> Any:
    """Return what a section without this key has."""
    return _SECTION[name].default


def sqlite_readers(pool_size: int) -> int:
    """Return how many readers a SQLite file gets for a `pool_size`."""
    return min(pool_size, _MOST_READERS)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The encryption of connections to TCP hosts (UNIX sockets never leave the machine and have none).

    Given at all, TLS is compulsory: a server that offers none is refused before the password is
    used. Whoever names an authority (`ca`, `ca_path`) has the server's certificate checked against
    it, always. `verify` asks for the certificate to be valid for the configured host name, too, and
    for the system's authorities where none is named. `ciphers` is an OpenSSL cipher list.
    """

    ca: str | None = None
    ca_path: str | None = None
    cert: str | None = None
    key: str | None = None
    verify: bool = True
    ciphers: str | None = None


@dataclass(frozen=True, slots=True)
class MysqlSettings:
    """A MySQL or MariaDB server group.

    `hosts` are written as in mysql_table(5). `replicas` are those of `hosts` that are asked before
    all others. `option_file` is read as the client library would ([client] and `option_group`);
    what is set here wins over it.

    `pool_size` connections are shared by all hosts; `max_queued` statements may wait for one, each
    for `queue_timeout`. A host that failed is left alone until a probe (every second, or every
    `retry_interval` when that is shorter) finds it back. `read_only` makes the session refuse
    writes; a stored procedure that writes needs it off.

    Over plain TCP to another host, a server's own key for the password (caching_sha2_password,
    sha256_password) is not taken unless `server_public_key` names its file, in PEM, or
    `get_server_public_key` accepts any.
    """

    hosts: tuple[str, ...] = ("localhost",)
    user: str = ""
    password: str = field(default="", repr=False)
    dbname: str = ""
    pool_size: int = _default("pool_size")
    connect_timeout: float = _default("connect_timeout")
    query_timeout: float = _default("query_timeout")
    queue_timeout: float = _default("queue_timeout")
    max_queued: int = _default("max_queued")
    retry_interval: float = _default("retry_interval")
    idle_interval: float = _default("idle_interval")
    tls: TlsSettings | None = None
    charset: str = _default("charset")
    option_file: str | None = None
    option_group: str = _default("option_group")
    replicas: tuple[str, ...] = ()
    read_only: bool = _default("read_only")
    server_public_key: str | None = None
    get_server_public_key: bool = _default("get_server_public_key")


@dataclass(frozen=True, slots=True)
class ChangesSettings:
    """The settings for following the changes of a MySQL or MariaDB server group.

    `follow` is ``auto`` (where the account may), ``yes`` or ``no``; `audit` answers a second are asked anew. With a
    `user` the log is read by an account of its own.
    """

    follow: str = "auto"
    watched_ttl: float = 86400.0
    watched_negative_ttl: float = 86400.0
    audit: float = 1.0
    user: str | None = None
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class SqliteSettings:
    """A SQLite file, opened for reading only; `readers` connections, each with its thread, work in parallel."""

    path: str
    readers: int = sqlite_readers(_default("pool_size"))
    query_timeout: float = _default("query_timeout")
    queue_timeout: float = _default("queue_timeout")
    max_queued: int = _default("max_queued")
