"""The SQL of a Dovecot 2.4 configuration, read into what a dovecot-sql.conf.ext of 2.3 says.

    sql_driver = mysql              for all, or inside a passdb or userdb for that one
    mysql localhost {               the name is the host; several blocks are several hosts
      user = mail
      password = …
      dbname = mail
    }
    passdb sql {
      default_password_scheme = SHA512-CRYPT
      query = SELECT … WHERE username = '%{user | lower}'
    }
    userdb sql {
      query = …
      iterate_query = …
    }

Queries are rewritten to one language: what stands in ``%{ }`` is left as it is, and a percent sign
of 2.4, which means itself, is doubled as 2.3 wants it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from mailmapd.errors import ConfigError, Fault
from mailmapd.formats.dovecot_blocks import Block, is_hidden, left_to_dovecot, read_blocks
from mailmapd.formats.dovecot_settings import Setting
from mailmapd.formats.dovecot_sql_conf import DovecotConnect, DovecotSqlConf

DEFAULT_SCHEME_24 = "PLAIN"
"""The scheme of an unprefixed password in Dovecot 2.4 when default_password_scheme is not set."""

OTHER_PURPOSES = ("deny", "master", "pass")
"""Settings with which a passdb does something else than let users in."""

_OF_24 = re.compile(
    r"^[ \t]*(?:(?:passdb|userdb)[ \t]+[^\s=]\S*[ \t]*\{|mysql[ \t]+[^\s={]\S*[ \t]*\{"
    r"|(?:sql_driver|dovecot_config_version)[ \t]*=)",
    re.MULTILINE,
)
_PERCENT = re.compile(r"%%(?=\{)|%(?!\{)")
"""Ways to write a percent sign: ``%%`` before a brace, else each one."""

_SECONDS = re.compile(r"(\d+)\s*(ms\w*|milli\w*|s\w*|m\w*|h\w*)?")
_UNITS = {"": 1.0, "ms": 0.001, "mi": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def is_of_24(text: str) -> bool:
    """Return whether a text is a configuration of 2.4, and not a dovecot-sql.conf.ext."""
    return _OF_24.search(text) is not None


def uses_sql(block: Block) -> bool:
    """Return whether a passdb or userdb asks SQL; its name is its driver unless it says another."""
    return block.value("driver", block.name) == "sql"


def read_dovecot_sql_24(path: Path) -> DovecotSqlConf:
    """Return the one sql passdb and the one sql userdb of a file. Raises ConfigError."""
    root = read_blocks(path)
    passdb = _only("passdb", root, path)
    userdb = _only("userdb", root, path)
    return sql_of_blocks(root, passdb, userdb, str(path))


def _only(kind: str, root: Block, path: Path) -> Block | None:
    used = [block for block in root.of_kind(kind) if uses_sql(block)]
    used = [block for block in used if not other_purpose(block)]
    if len(used) > 1:
        problem = f"has several {kind} blocks with SQL: {', '.join(block.title for block in used)}"
        raise ConfigError(
            [Fault(str(path), "", problem, "let mailmapd import --dovecot read them")]
        )
    return used[0] if used else None


def other_purpose(block: Block) -> str:
    """Return the setting with which a passdb does something else than let users in, or nothing."""
    return next((name for name in OTHER_PURPOSES if block.value(name) == "yes"), "")


def sql_of_blocks(
    root: Block, passdb: Block | None, userdb: Block | None, file: str
) -> DovecotSqlConf:
    """Return what a passdb and a userdb ask. Raises ConfigError with every fault."""
    blocks = [block for block in (passdb, userdb) if block is not None]
    settings: dict[str, Setting] = {}
    for block, key, name in (
        (passdb, "query", "password_query"),
        (userdb, "query", "user_query"),
        (userdb, "iterate_query", "iterate_query"),
    ):
        setting = None if block is None else block.get(key)
        if block is not None and setting is not None and setting.value:
            word = left_to_dovecot(setting)
            if word:
                raise ConfigError([_left(file, block, f"{key} holds {word}")])
            text = _PERCENT.sub("%%", setting.value)
            title = f"{block.title}: {key}"
            settings[name] = Setting(title, text, setting.file, setting.line)
    if not settings:
        remedy = "write query into passdb sql { } or userdb sql { }"
        raise ConfigError([Fault(file, "", "has no query of a passdb or userdb with SQL", remedy)])
    connects = {_Connect(root, block, file).read() for block in blocks}
    if len(connects) > 1:
        problem = f"{' and '.join(block.title for block in blocks)} ask different databases"
        raise ConfigError([Fault(file, "", problem, "let mailmapd import --dovecot read them")])
    driver, connect = connects.pop()
    return DovecotSqlConf(
        file=file,
        driver=driver,
        connect=connect,
        default_pass_scheme=(
            passdb.value("default_password_scheme", DEFAULT_SCHEME_24)
            if passdb
            else DEFAULT_SCHEME_24
        ),
        password_query=_text(settings, "password_query"),
        user_query=_text(settings, "user_query"),
        iterate_query=_text(settings, "iterate_query"),
        settings=settings,
    )


def _text(settings: dict[str, Setting], key: str) -> str | None:
    return settings[key].value if key in settings else None


def _left(file: str, block: Block, problem: str) -> Fault:
    return Fault(file, block.title, f"{problem}, which Dovecot alone can read", "write the value")


class _Connect:
    """The driver and the database of one block: its own settings, else those of the whole configuration."""

    def __init__(self, root: Block, block: Block, file: str) -> None:
        self._root = root
        self._block = block
        self._file = file

    def read(self) -> tuple[str, DovecotConnect]:
        driver = self._value("sql_driver")
        if driver == "sqlite":
            path = self._value("sqlite_path")
            if not path:
                raise self._fault("sqlite_path is not set", "write sqlite_path = /…")
            return driver, DovecotConnect(path=path)
        if driver != "mysql":
            problem = f"sql_driver is {driver}" if driver else "sql_driver is not set"
            raise self._fault(problem, "mailmapd asks mysql (also MariaDB) and sqlite databases")
        hosts = self._block.of_kind("mysql") or self._root.of_kind("mysql")
        if not hosts:
            raise self._fault("there is no mysql block", "write mysql localhost { … }")
        if any(is_hidden(host.value("password")) for host in hosts):
            raise self._fault("the password is hidden", "print it with doveconf -n -P")
        encrypted = self._same(hosts, "ssl") not in (None, "no")
        return driver, DovecotConnect(
            hosts=tuple(_host(host) for host in hosts),
            user=self._same(hosts, "user"),
            password=self._same(hosts, "password"),
            dbname=self._same(hosts, "dbname"),
            option_file=self._same(hosts, "option_file"),
            option_group=self._same(hosts, "option_group"),
            connect_timeout=self._seconds(hosts, "connect_timeout"),
            read_timeout=self._seconds(hosts, "read_timeout"),
            ssl_ca=self._tls(hosts, "ca_file") if encrypted else None,
            ssl_ca_path=self._tls(hosts, "ca_dir") if encrypted else None,
            ssl_cert=self._tls(hosts, "cert_file") if encrypted else None,
            ssl_key=self._tls(hosts, "key_file") if encrypted else None,
            ssl_verify_server_cert=self._tls(hosts, "require_valid_cert") != "no",
        )

    def _value(self, name: str) -> str:
        return self._plain(self._block, name) or self._plain(self._root, name)

    def _plain(self, block: Block, key: str) -> str:
        """Return a value that says what it is. Raises ConfigError for one that Dovecot makes something else of."""
        setting = block.get(key)
        if setting is None:
            return ""
        variable = re.search(r"(?<!%)%\{[^}]*\}", setting.value)
        word = left_to_dovecot(setting) or (variable[0] if variable else "")
        if word:
            raise ConfigError([_left(self._file, block, f"{key} holds {word}")])
        return setting.value.replace("%%{", "%{")

    def _same(self, hosts: Iterable[Block], key: str) -> str | None:
        """Return what every host says: a database of mailmapd's has one account."""
        values = {self._plain(host, key) for host in hosts}
        if len(values) > 1:
            problem = f"the mysql blocks differ in {key}"
            raise self._fault(problem, "mailmapd asks all hosts of a database in the same way")
        return values.pop() or None

    def _seconds(self, hosts: Iterable[Block], key: str) -> int | None:
        """Return the smallest time that a host is given, in seconds."""
        matches = [_SECONDS.fullmatch(host.value(key)) for host in hosts]
        given = [int(match[1]) * _unit(match[2] or "") for match in matches if match is not None]
        return max(int(min(given)), 1) if given else None

    def _tls(self, hosts: Iterable[Block], name: str) -> str | None:
        """Return a setting of TLS, which a block may have of its own."""
        whole = f"ssl_client_{name}"
        return self._same(hosts, whole) or self._plain(self._root, whole) or None

    def _fault(self, problem: str, remedy: str) -> ConfigError:
        return ConfigError([Fault(self._file, self._block.title, problem, remedy)])


def _unit(name: str) -> float:
    return _UNITS.get(name[:2], _UNITS.get(name[:1], 1.0))


def _host(block: Block) -> str:
    name = block.value("host") or block.name
    port = block.value("port")
    if name.startswith("/"):
        return f"unix:{name}"
    if not port or port == "0" or name == "localhost":
        return name
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
