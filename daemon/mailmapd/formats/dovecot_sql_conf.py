"""A dovecot-sql.conf.ext of Dovecot 2.3, used as it is: the database it connects to, and its three queries.

    driver = mysql
    connect = host=/run/mysqld/mysqld.sock dbname=mail user=mail password=…
    default_pass_scheme = CRYPT
    password_query = SELECT … ; user_query = SELECT … ; iterate_query = SELECT …

The syntax is read by `dovecot_settings`; this module knows the keys (src/auth/db-sql.c) and the
words of `connect` (driver-mysql.c, driver-sqlpool.c, driver-sqlite.c). A query that the file does
not set is None: Dovecot's built-in ones fit its sample schema only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mailmapd.errors import ConfigError, Fault
from mailmapd.formats.dovecot_settings import Setting, read_settings

DEFAULT_SCHEME = "MD5"
"""The scheme of an unprefixed hash in Dovecot 2.3 when default_pass_scheme is not set (it means MD5-CRYPT)."""

_KEYS = (
    "driver",
    "connect",
    "password_query",
    "user_query",
    "update_query",
    "iterate_query",
    "default_pass_scheme",
    "userdb_warning_disable",
)
_TEXTS = (
    "user",
    "password",
    "dbname",
    "ssl_ca",
    "ssl_ca_path",
    "ssl_cert",
    "ssl_key",
    "ssl_cipher",
    "option_file",
    "option_group",
)
_NUMBERS = ("port", "client_flags", "connect_timeout", "read_timeout", "write_timeout", "maxconns")


@dataclass(frozen=True, slots=True)
class DovecotConnect:
    """The words of `connect`, timeouts in seconds.

    `hosts` as in mailmapd.toml (``unix:/path``, ``host:port``, ``localhost``).
    """

    path: str | None = None
    hosts: tuple[str, ...] = ()
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    dbname: str | None = None
    ssl_ca: str | None = None
    ssl_ca_path: str | None = None
    ssl_cert: str | None = None
    ssl_key: str | None = None
    ssl_cipher: str | None = None
    ssl_verify_server_cert: bool = True
    option_file: str | None = None
    option_group: str | None = None
    connect_timeout: int | None = None
    read_timeout: int | None = None
    maxconns: int | None = None


@dataclass(frozen=True, slots=True)
class DovecotSqlConf:
    """The whole file; `settings` keeps each query's place for error messages."""

    file: str
    driver: str
    connect: DovecotConnect
    default_pass_scheme: str
    password_query: str | None
    user_query: str | None
    iterate_query: str | None
    settings: dict[str, Setting] = field(repr=False)

    def fault(self, key: str, problem: str, remedy: str) -> Fault:
        """Return a fault at the line that sets `key`."""
        return self.settings[key].fault(problem, remedy)


def read_dovecot_sql_conf(path: str | Path) -> DovecotSqlConf:
    """Read the file. Raises ConfigError with every fault; a fault never shows what `connect` says."""
    settings: dict[str, Setting] = {}
    faults: list[Fault] = []
    for setting in read_settings(path):
        if setting.key not in _KEYS:
            faults.append(
                setting.fault(
                    "is not a setting Dovecot knows", f"the settings are {', '.join(_KEYS)}"
                )
            )
        settings[setting.key] = setting
    connect = _connect(str(path), settings, faults)
    queries = {
        key: settings[key].value
        for key in ("password_query", "user_query", "iterate_query")
        if key in settings
    }
    if not queries and not faults:
        faults.append(
            Fault(
                str(path), "", "sets no query", "write password_query, user_query or iterate_query"
            )
        )
    if faults:
        raise ConfigError(faults)
    scheme = settings.get("default_pass_scheme")
    return DovecotSqlConf(
        file=str(path),
        driver=settings["driver"].value,
        connect=connect,
        default_pass_scheme=DEFAULT_SCHEME if scheme is None else scheme.value,
        password_query=queries.get("password_query"),
        user_query=queries.get("user_query"),
        iterate_query=queries.get("iterate_query"),
        settings=settings,
    )


def _connect(file: str, settings: dict[str, Setting], faults: list[Fault]) -> DovecotConnect:
    driver, connect = settings.get("driver"), settings.get("connect")
    if driver is None:
        faults.append(Fault(file, "", "driver is not set", "write driver = mysql"))
    elif driver.value not in ("mysql", "sqlite"):
        faults.append(
            driver.fault(
                f"is {driver.value}", "mailmapd asks mysql (also MariaDB) and sqlite databases"
            )
        )
    if connect is None:
        faults.append(
            Fault(
                file, "", "connect is not set", "write connect = host=… dbname=… user=… password=…"
            )
        )
        return DovecotConnect()
    if driver is not None and driver.value == "sqlite":
        return DovecotConnect(path=connect.value)
    return _ConnectString(connect, faults).parse()


class _ConnectString:
    """The blank-separated `name=value` words of a mysql `connect`."""

    def __init__(self, setting: Setting, faults: list[Fault]) -> None:
        self._setting = setting
        self._faults = faults
        self._hosts: list[str] = []
        self._words: dict[str, str] = {}

    def parse(self) -> DovecotConnect:
        for number, word in enumerate(filter(None, self._setting.value.split(" ")), 1):
            name, equals, value = word.partition("=")
            if not equals:
                self._fault(
                    f"word {number} has no =",
                    "values cannot hold blanks; quotes around a value do not help",
                )
            elif name in ("host", "hostaddr"):
                self._hosts.append(value)
            elif name in (*_TEXTS, *_NUMBERS, "ssl_verify_server_cert"):
                self._words[name] = value
            else:
                self._fault(
                    f"word {number} has a name Dovecot does not know",
                    f"the names are host, {', '.join((*_TEXTS, *_NUMBERS))}",
                )
        if not self._hosts and "option_file" not in self._words:
            self._fault("names no host", "write host=/run/mysqld/mysqld.sock or host=127.0.0.1")
        numbers = {name: self._number(name) for name in _NUMBERS}
        return DovecotConnect(
            hosts=tuple(_host(host, numbers["port"]) for host in self._hosts),
            user=self._words.get("user"),
            password=self._words.get("password"),
            dbname=self._words.get("dbname"),
            ssl_ca=self._words.get("ssl_ca"),
            ssl_ca_path=self._words.get("ssl_ca_path"),
            ssl_cert=self._words.get("ssl_cert"),
            ssl_key=self._words.get("ssl_key"),
            ssl_cipher=self._words.get("ssl_cipher"),
            ssl_verify_server_cert=self._yes("ssl_verify_server_cert"),
            option_file=self._words.get("option_file"),
            option_group=self._words.get("option_group"),
            connect_timeout=numbers["connect_timeout"],
            read_timeout=numbers["read_timeout"],
            maxconns=numbers["maxconns"],
        )

    def _number(self, name: str) -> int | None:
        text = self._words.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit()) or (
            name == "port" and not 0 < int(text) < 65536
        ):
            self._fault(
                f"says {name}= something that is not a number in range",
                f"write {name}= and a number",
            )
            return None
        return int(text)

    def _yes(self, name: str) -> bool:
        text = self._words.get(name, "yes")
        if text not in ("yes", "no"):
            self._fault(f"says {name}= neither yes nor no", "write yes or no")
        return text != "no"

    def _fault(self, problem: str, remedy: str) -> None:
        self._faults.append(self._setting.fault(problem, remedy))


def _host(host: str, port: int | None) -> str:
    if host.startswith("/"):
        return f"unix:{host}"
    if host == "localhost" or port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
