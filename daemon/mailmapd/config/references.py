"""References between parts of the configuration: each name must be that of something.

Names that must exist, keys that exclude each other, sockets used twice.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from mailmapd.config.address import TcpAddress
from mailmapd.config.cluster_references import cluster_faults
from mailmapd.config.schema import (
    Config,
    DatabaseSection,
    ListenAddress,
    ListenSection,
    TableSection,
)
from mailmapd.errors import Fault


def reference_faults(config: Config) -> list[Fault]:
    """Return every fault that needs more than one key to see."""
    faults = [
        *_listen_faults(config),
        *_database_faults(config),
        *cluster_faults(config),
        *_table_faults(config),
        *_map_faults(config),
        *_hosted_domains_faults(config),
        *_dict_faults(config),
    ]
    return [Fault(config.file, where, problem, remedy) for where, problem, remedy in faults]


_Finding = tuple[str, str, str]

_GIVES_HASHES = ("listen.dict", "listen.lookup_http")
OTHERS = 0o006  # the bits of a mode that let accounts in that are neither owner nor in the group


def _missing(where: str, kind: str, name: str, known: Iterable[str]) -> _Finding:
    near = difflib.get_close_matches(name, list(known), n=1)
    remedy = f'did you mean "{near[0]}"?' if near else f"add a [{kind}.{name}] section"
    return where, f'there is no {kind} "{name}"', remedy


def _sockets(config: Config) -> Iterator[tuple[str, ListenAddress]]:
    listen = config.listen
    for index, entry in enumerate(listen.socketmap):
        yield f"listen.socketmap[{index}]", entry
    for index, entry in enumerate(listen.dicts):
        yield f"listen.dict[{index}]", entry
    for name, single in (
        ("http", listen.http),
        ("control", listen.control),
        ("lookup_http", listen.lookup_http),
        ("webhook", listen.webhook),
    ):
        if single is not None:
            yield f"listen.{name}", single
    for name, entry in listen.tcp_table.items():
        yield f"listen.tcp_table.{name}", entry


def _listen_faults(config: Config) -> Iterator[_Finding]:
    seen: dict[str, str] = {}
    for where, entry in _sockets(config):
        address = entry.address
        if isinstance(address, TcpAddress):
            if not address.loopback and not config.listen.allow_remote:
                yield (
                    where,
                    f"{address} can be reached from other machines",
                    "use 127.0.0.1, or set listen.allow_remote = true behind a firewall",
                )
            if entry.owner or entry.group or entry.mode is not None or entry.peers:
                yield (
                    where,
                    "owner, group, mode and peers need a UNIX socket",
                    "use a unix: address or remove them",
                )
        yield from _hash_faults(where, entry)
        text = str(address)
        if text in seen and not (isinstance(address, TcpAddress) and address.port == 0):
            yield (
                where,
                f"{text} is already used by {seen[text]}",
                "give each listener an address of its own",
            )
        seen.setdefault(text, where)
    if config.listen.control is not None and isinstance(config.listen.control.address, TcpAddress):
        yield (
            "listen.control",
            "must be a UNIX socket, because its clients are known by their user id",
            'write "unix:/run/mailmapd/control"',
        )
    yield from _webhook_faults(config.listen)
    for name in config.listen.tcp_table:
        if name not in config.maps:
            yield _missing(f"listen.tcp_table.{name}", "map", name, config.maps)


def _webhook_faults(listen: ListenSection) -> Iterator[_Finding]:
    """Yield why others than a panel could have everything forgotten."""
    webhook, token = listen.webhook, listen.webhook_token_file
    if webhook is not None and token is None:
        if isinstance(webhook.address, TcpAddress):
            yield (
                "listen.webhook_token_file",
                "is missing: everybody who can connect could have everything forgotten",
                "write a secret into a file and name it here, or use a UNIX socket",
            )
        elif _open_to_all(webhook):
            yield (
                "listen.webhook",
                f"mode {webhook.mode:04o} lets every account of this machine have everything forgotten",
                'write mode = "0660" and a group, name the peers, or set webhook_token_file',
            )
    if webhook is None and token is not None:
        yield "listen.webhook_token_file", "means nothing without webhook", "remove it"


def _hash_faults(where: str, entry: ListenAddress) -> Iterator[_Finding]:
    """Yield why a listener that gives out password hashes would give them to others than Dovecot."""
    if not where.startswith(_GIVES_HASHES):
        return
    name = "dict" if where.startswith("listen.dict") else "lookup"
    if isinstance(entry.address, TcpAddress):
        yield (
            where,
            "gives password hashes to every account that can connect over TCP",
            f'write {{address = "unix:/run/mailmapd/{name}", group = "dovecot"}}',
        )
    elif _open_to_all(entry):
        yield (
            where,
            f"mode {entry.mode:04o} gives password hashes to every account of this machine",
            'write mode = "0660" and group = "dovecot", or name the peers',
        )


def _open_to_all(entry: ListenAddress) -> bool:
    """Return whether the mode of a UNIX socket lets every account in, and no peers are named."""
    return entry.mode is not None and bool(entry.mode & OTHERS) and not entry.peers


def _database_faults(config: Config) -> Iterator[_Finding]:
    for name, database in config.databases.items():
        where = f"database.{name}"
        if database.driver == "sqlite":
            if database.path is None:
                yield (
                    f"{where}.path",
                    "is missing",
                    'a sqlite database needs path = "/var/lib/mail.sqlite"',
                )
            yield from _foreign(
                where,
                "sqlite",
                database,
                (
                    "hosts",
                    "user",
                    "password",
                    "password_file",
                    "dbname",
                    "option_file",
                    "tls",
                    "server_public_key",
                    "identity",
                ),
            )
            if database.changes is not None and database.changes.user is not None:
                yield (
                    f"{where}.changes.user",
                    "is for a server's log",
                    "remove it: a SQLite file is asked itself whether it has changed",
                )
        else:
            yield from _foreign(where, "mysql", database, ("path",))
            changes = database.changes
            if changes is not None and changes.password_file is not None and changes.user is None:
                yield (
                    f"{where}.changes.password_file",
                    "is for an account of its own, and none is named",
                    f'add user = "…" to [{where}.changes], or remove it',
                )
            if database.password is not None and database.password_file is not None:
                yield (
                    f"{where}.password",
                    "password and password_file are both set",
                    "keep one of them",
                )
            for host in database.prefer:
                if host not in database.hosts:
                    yield (
                        f"{where}.prefer",
                        f'"{host}" is not one of the hosts',
                        "write it exactly as in hosts",
                    )


def _foreign(
    where: str, driver: str, database: DatabaseSection, names: tuple[str, ...]
) -> Iterator[_Finding]:
    for name in names:
        if getattr(database, name):
            yield f"{where}.{name}", f"means nothing with the {driver} driver", "remove it"


_MYSQL_TABLE_KEYS = ("query", "domain", "expansion_limit")


def _table_faults(config: Config) -> Iterator[_Finding]:
    for name, table in config.tables.items():
        where = f"table.{name}"
        if table.postfix_cf is not None:
            yield from _excluded(
                where, table, "postfix_cf", ("database", "dovecot_query", *_MYSQL_TABLE_KEYS)
            )
            continue
        if table.dovecot_query is not None:
            yield from _excluded(where, table, "dovecot_query", _MYSQL_TABLE_KEYS)
        elif table.query is None:
            yield (
                f"{where}.query",
                "is missing",
                'write the SQL, or postfix_cf = "/etc/postfix/mysql-….cf"',
            )
        if table.database is None:
            yield f"{where}.database", "is missing", "name one of the [database.…] sections"
        elif table.database not in config.databases:
            yield _missing(f"{where}.database", "database", table.database, config.databases)


def _excluded(
    where: str, table: TableSection, beside: str, keys: tuple[str, ...]
) -> Iterator[_Finding]:
    for key in keys:
        if getattr(table, key):
            yield f"{where}.{key}", f"cannot stand beside {beside}", "remove one of them"
    if table.result_format != "%s":
        yield f"{where}.result_format", f"cannot stand beside {beside}", "remove one of them"


def _map_faults(config: Config) -> Iterator[_Finding]:
    for name, section in config.maps.items():
        where = f"map.{name}"
        if " " in name or not name:
            yield (
                where,
                "a map name cannot be empty or hold a blank (socketmap ends the name there)",
                "rename it",
            )
        for index, table in enumerate(section.tables):
            if table not in config.tables:
                yield _missing(f"{where}.tables[{index}]", "table", table, config.tables)
            elif config.tables[table].dovecot_query is not None:
                yield (
                    f"{where}.tables[{index}]",
                    f'table "{table}" has a dovecot_query, which Postfix cannot ask',
                    "use a table with query",
                )
            elif table in section.tables[:index]:
                yield (
                    f"{where}.tables[{index}]",
                    f'table "{table}" is listed twice',
                    "the second can never answer; remove it",
                )


def _hosted_domains_faults(config: Config) -> Iterator[_Finding]:
    for name, section in config.maps.items():
        if section.hosted_domains is None:
            continue
        where = f"map.{name}.hosted_domains"
        if section.hosted_domains not in config.maps:
            yield _missing(where, "map", section.hosted_domains, config.maps)
            continue
        path = [name]
        following: str | None = section.hosted_domains
        while following is not None and following in config.maps and following not in path:
            path.append(following)
            following = config.maps[following].hosted_domains
        if following == name:
            yield (
                where,
                f"is a cycle: {' → '.join([*path, name])}",
                "name a map of domains that has no hosted_domains itself",
            )


def _dict_faults(config: Config) -> Iterator[_Finding]:
    for name, section in config.dicts.items():
        where = f"dict.{name}"
        for key in ("passdb", "userdb", "iterate"):
            table = getattr(section, key)
            if table is None:
                continue
            if section.dovecot_sql is not None:
                yield (
                    f"{where}.{key}",
                    "cannot stand beside dovecot_sql",
                    "the dovecot-sql.conf.ext file says it; remove one of them",
                )
            elif table not in config.tables:
                yield _missing(f"{where}.{key}", "table", table, config.tables)
        if section.dovecot_sql is None:
            if section.passdb is None and section.userdb is None and section.iterate is None:
                yield where, "asks nothing", "set passdb, userdb, iterate or dovecot_sql"
            if section.database is not None:
                yield (
                    f"{where}.database",
                    "means nothing without dovecot_sql",
                    "the tables name their database; remove it",
                )
        else:
            if section.default_pass_scheme is not None:
                yield (
                    f"{where}.default_pass_scheme",
                    "cannot stand beside dovecot_sql",
                    "the dovecot-sql.conf.ext file says it; remove it",
                )
            if section.database is not None and section.database not in config.databases:
                yield _missing(f"{where}.database", "database", section.database, config.databases)
