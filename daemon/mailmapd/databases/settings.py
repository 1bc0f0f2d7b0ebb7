"""Settings of each kind of database, as plain checked values. Times are in seconds; passwords never show in a repr."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How connections to TCP hosts are encrypted (UNIX sockets never leave the machine and are not).

    Given at all, TLS is compulsory: a server that offers none is refused before the password is
    used. `verify` checks the server's certificate against `ca` or `ca_path` (the system's
    authorities when neither is set) and its name against the configured host. `ciphers` is an
    OpenSSL cipher list.
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
    """

    hosts: tuple[str, ...] = ("localhost",)
    user: str = ""
    password: str = field(default="", repr=False)
    dbname: str = ""
    pool_size: int = 8
    connect_timeout: float = 3.0
    query_timeout: float = 5.0
    queue_timeout: float = 3.0
    max_queued: int = 1000
    retry_interval: float = 60.0
    idle_interval: float = 60.0
    tls: TlsSettings | None = None
    charset: str = "utf8mb4"
    option_file: str | None = None
    option_group: str = "client"
    replicas: tuple[str, ...] = ()
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class SqliteSettings:
    """A SQLite file, opened for reading only; `readers` connections, each with its thread, work in parallel."""

    path: str
    readers: int = 2
    query_timeout: float = 5.0
    queue_timeout: float = 3.0
    max_queued: int = 1000
