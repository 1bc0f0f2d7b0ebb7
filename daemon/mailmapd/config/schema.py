"""The configuration as values: every section and key of mailmapd.toml, with its type and default.

The classes hold what the administrator wrote, checked for type and range; names that refer to each
other are checked in `references`.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve, field, frozen, validators

from mailmapd.config.address import Address, UnixAddress

MOST = 2**31 - 1
"""The largest whole number, which libraries and servers take as well."""


class Seconds(float):
    """A duration; the file may say it with a unit, such as "5m"."""


class Size(str):
    """An amount of memory, such as "512MiB" or "10%"."""

    __slots__ = ()


class Mode(int):
    """A file mode; the file says it in octal, such as "0660"."""


class Lines(str):
    """A text that may have several lines, such as a query."""

    __slots__ = ()


class Secret(str):
    """A password that stands in the configuration itself, which must then be closed to others."""

    __slots__ = ()


class FileName(str):
    """The name of a file or a folder that is read; a relative one is meant from the configuration's folder."""

    __slots__ = ()


class SecretFile(FileName):
    """A file that is a secret and nothing else: one of systemd's credentials of that name comes first."""

    __slots__ = ()


class FileWithSecret(FileName):
    """A file in which a password or a private key may stand."""

    __slots__ = ()


_AS_IT_IS = Lines("%s")
_positive: Any = validators.gt(0)
_not_negative: Any = validators.ge(0)
_fraction: Any = validators.and_(validators.ge(0), validators.lt(1))
_not_empty: Any = validators.optional(validators.min_len(1))
_optional_positive: Any = validators.optional(_positive)
_optional_not_negative: Any = validators.optional(_not_negative)
_optional_fraction: Any = validators.optional(_fraction)


@frozen(kw_only=True)
class ListenAddress:
    """One socket to listen on, with who may connect to it.

    `owner`, `group` and `mode` apply to UNIX sockets; `peers` are user names (or numeric ids) that
    may connect, checked with SO_PEERCRED (empty: whoever the mode lets in).
    """

    address: Address
    owner: str | None = None
    group: str | None = None
    mode: Mode | None = None
    peers: tuple[str, ...] = ()


DEFAULT_CONTROL = ListenAddress(address=UnixAddress("/run/mailmapd/control"))
"""Opened when the file says nothing of it, where the folder is there; false in the file closes it."""


@frozen(kw_only=True)
class ListenSection:
    """`[listen]`: where each protocol is served."""

    socketmap: tuple[ListenAddress, ...] = ()
    dicts: tuple[ListenAddress, ...] = ()
    http: ListenAddress | None = None
    control: ListenAddress | None = DEFAULT_CONTROL
    lookup_http: ListenAddress | None = None
    webhook: ListenAddress | None = None
    webhook_token_file: SecretFile | None = None
    tcp_table: dict[str, ListenAddress] = field(factory=dict)
    allow_remote: bool = False


@frozen(kw_only=True)
class LimitsSection:
    """`[limits]`: what clients may use up."""

    max_connections: int = field(default=10_000, validator=_positive)
    idle_timeout: Seconds = field(default=Seconds(600.0), validator=_positive)
    stall_timeout: Seconds = field(default=Seconds(30.0), validator=_positive)
    backlog: int = field(default=4096, validator=_positive)
    drain_timeout: Seconds = field(default=Seconds(10.0), validator=_not_negative)


@frozen(kw_only=True)
class LogSection:
    """`[log]`: how much is written to stderr, and how."""

    level: str = field(
        default="info", validator=validators.in_(("debug", "info", "warning", "error"))
    )
    format: str = field(
        default="auto", validator=validators.in_(("auto", "plain", "journald", "json"))
    )
    slow_lookup: Seconds = field(default=Seconds(1.0), validator=_not_negative)


@frozen(kw_only=True)
class StateSection:
    """`[state]`: what outlives the process."""

    directory: FileName | None = None
    save_interval: Seconds = field(default=Seconds(600.0), validator=_positive)
    passwords: bool = False


@frozen(kw_only=True)
class TlsSection:
    """`tls = {…}` of a database: PEM files, and whether the server's certificate must be valid for its name.

    With a `ca` or `capath` the certificate must come from that authority, whatever `verify` says.
    """

    ca: FileName | None = None
    capath: FileName | None = None
    cert: FileName | None = None
    key: FileWithSecret | None = None
    ciphers: str | None = None
    verify: bool = True


@frozen(kw_only=True)
class ChangesSection:
    """`[database.NAME.changes]`: following the server's log of changed rows."""

    follow: str = field(default="auto", validator=validators.in_(("auto", "yes", "no")))
    watched_ttl: Seconds = field(default=Seconds(86400.0), validator=_positive)
    watched_negative_ttl: Seconds = field(default=Seconds(86400.0), validator=_positive)
    audit: float = field(default=1.0, validator=(validators.ge(0), validators.le(1000)))
    user: str | None = None
    password_file: SecretFile | None = None


@frozen(kw_only=True)
class DatabaseSection:
    """`[database.NAME]`: a server group (driver "mysql") or a file (driver "sqlite")."""

    driver: str = field(validator=validators.in_(("mysql", "sqlite")))
    path: FileName | None = None
    hosts: tuple[str, ...] = ()
    user: str | None = None
    password: Secret | None = field(default=None, repr=False)
    password_file: SecretFile | None = None
    dbname: str | None = None
    charset: str = "utf8mb4"
    option_file: FileWithSecret | None = None
    option_group: str = "client"
    pool_size: int = field(default=8, validator=_positive)
    max_queued: int = field(default=1000, validator=_positive)
    connect_timeout: Seconds = field(default=Seconds(3.0), validator=_positive)
    query_timeout: Seconds = field(default=Seconds(5.0), validator=_positive)
    queue_timeout: Seconds = field(default=Seconds(3.0), validator=_positive)
    retry_interval: Seconds = field(default=Seconds(60.0), validator=_positive)
    idle_interval: Seconds = field(default=Seconds(60.0), validator=_positive)
    prefer: tuple[str, ...] = ()
    read_only: bool = True
    tls: TlsSection | None = None
    server_public_key: FileName | None = None
    get_server_public_key: bool = False
    identity: str | None = None
    changes: ChangesSection | None = None


@frozen(kw_only=True)
class ClusterSection:
    """`[cluster]`: the Valkey or Redis server by which hosts tell each other what to forget."""

    url: str | None = None
    sentinels: tuple[str, ...] = ()
    service: str | None = field(default=None, validator=_not_empty)
    user: str | None = field(default=None, validator=_not_empty)
    password: Secret | None = field(default=None, repr=False, validator=_not_empty)
    password_file: SecretFile | None = None
    sentinel_password_file: SecretFile | None = None
    tls: TlsSection | None = None
    allow_plain_password: bool = False
    stream: str = field(default="mailmapd", validator=validators.min_len(1))
    host: str | None = field(default=None, validator=_not_empty)
    max_messages: int = field(default=20_000, validator=validators.ge(1000))
    key_file: SecretFile | None = None
    second_level: bool = False
    second_level_passwords: bool = False
    second_level_max_bytes: Size = field(default=Size("256MiB"))


@frozen(kw_only=True)
class DovecotSection:
    """`[dovecot]`: the Dovecot of this host, whose auth cache forgets what mailmapd forgets."""

    auth_master: Address


@frozen(kw_only=True)
class CacheSection:
    """`[cache]`: the defaults of every table's cache. Times in seconds, sizes in entries."""

    ttl: Seconds = field(default=Seconds(300.0), validator=_positive)
    negative_ttl: Seconds = field(default=Seconds(60.0), validator=_not_negative)
    stale_ttl: Seconds = field(default=Seconds(86400.0), validator=_not_negative)
    negative_stale_ttl: Seconds = field(default=Seconds(3600.0), validator=_not_negative)
    max_bytes: Size = field(default=Size("10%"))
    max_entries: int = field(default=1_000_000, validator=_positive)
    max_negative_entries: int = field(default=200_000, validator=_positive)
    refresh_ahead: float = field(default=0.2, validator=_fraction)
    jitter: float = field(default=0.1, validator=_fraction)


@frozen(kw_only=True)
class TableCacheSection:
    """`[table.NAME.cache]`: what differs from `[cache]` for one table; None means as there."""

    ttl: Seconds | None = field(default=None, validator=_optional_positive)
    negative_ttl: Seconds | None = field(default=None, validator=_optional_not_negative)
    stale_ttl: Seconds | None = field(default=None, validator=_optional_not_negative)
    negative_stale_ttl: Seconds | None = field(default=None, validator=_optional_not_negative)
    max_entries: int | None = field(default=None, validator=_optional_positive)
    max_negative_entries: int | None = field(default=None, validator=_optional_positive)
    refresh_ahead: float | None = field(default=None, validator=_optional_fraction)
    jitter: float | None = field(default=None, validator=_optional_fraction)

    def over(self, defaults: CacheSection) -> CacheSection:
        """Return the defaults with this table's own settings in their place."""
        names = [attribute.name for attribute in self.__attrs_attrs__]
        own = {name: getattr(self, name) for name in names}
        return CacheSection(
            **{
                name: getattr(defaults, name) if value is None else value
                for name, value in own.items()
            }
        )

    def over_for_passwords(self, defaults: CacheSection) -> CacheSection:
        """Do as `over` does for a table of passwords: they are stale for `PASSWORD_STALE` unless it says otherwise."""
        section = self.over(defaults)
        if self.stale_ttl is not None or section.stale_ttl <= PASSWORD_STALE:
            return section
        return evolve(section, stale_ttl=PASSWORD_STALE)


PASSWORD_STALE = Seconds(900.0)
"""Seconds for which a password may outlive an unreachable database: one changed in need must come to its end."""


@frozen(kw_only=True)
class TableSection:
    """`[table.NAME]`: a query with mysql_table(5) meaning, a .cf file used as it is, or a query for Dovecot."""

    database: str | None = None
    query: Lines | None = None
    dovecot_query: Lines | None = None
    result_format: Lines = _AS_IT_IS
    domain: tuple[str, ...] = ()
    expansion_limit: int = field(default=0, validator=_not_negative)
    require_result_set: bool = True
    fold: bool = True
    postfix_cf: FileWithSecret | None = None
    preload: Lines | None = None
    secret: bool = False
    cache: TableCacheSection = field(factory=TableCacheSection)


@frozen(kw_only=True)
class MapSection:
    """`[map.NAME]`: what one main.cf parameter names, an ordered list of tables and the search that Postfix would do.

    `propagate_unmatched_extensions` is set, to true or false, for the maps that rewrite addresses
    (canonical and virtual alias maps). `own_addresses` are words of inet_interfaces ("all",
    "ipv4", "ipv6") and host names, whose addresses in brackets are local domains, too.
    """

    tables: tuple[str, ...] = field(validator=validators.min_len(1))
    search: str | tuple[str, ...] = "exact"
    recipient_delimiter: str = ""
    owner_request_special: bool = True
    propagate_unmatched_extensions: bool | None = None
    local_domains: tuple[str, ...] = ()
    own_addresses: tuple[str, ...] = ()
    fold: str = field(
        default="unicode", validator=validators.in_(("unicode", "ascii", "utf8", "none"))
    )
    parent_domain_matches_subdomains: bool = False
    hosted_domains: str | None = None


@frozen(kw_only=True)
class DictSection:
    """`[dict.NAME]`: what Dovecot asks."""

    passdb: str | None = None
    userdb: str | None = None
    iterate: str | None = None
    dovecot_sql: FileWithSecret | None = None
    database: str | None = None
    default_pass_scheme: str | None = None


@frozen(kw_only=True)
class Config:
    """A whole mailmapd.toml. `file` is where it was read from; relative file names in it are relative to its folder."""

    file: str
    listen: ListenSection = field(factory=ListenSection)
    limits: LimitsSection = field(factory=LimitsSection)
    log: LogSection = field(factory=LogSection)
    state: StateSection = field(factory=StateSection)
    cluster: ClusterSection | None = None
    dovecot: DovecotSection | None = None
    cache: CacheSection = field(factory=CacheSection)
    databases: dict[str, DatabaseSection] = field(factory=dict)
    tables: dict[str, TableSection] = field(factory=dict)
    maps: dict[str, MapSection] = field(factory=dict)
    dicts: dict[str, DictSection] = field(factory=dict)


TOML_NAMES = {
    ListenSection: {"dicts": "dict"},
    Config: {"databases": "database", "tables": "table", "maps": "map", "dicts": "dict"},
}
"""Attributes whose key in the file is another word: the file speaks of one ([table.NAME]), the code of many."""
