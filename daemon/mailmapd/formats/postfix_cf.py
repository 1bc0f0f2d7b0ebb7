"""Postfix's own table files, used as they are: the parameters of mysql_table(5) and sqlite_table(5).

Names that neither manual knows are kept aside without a word, as Postfix does; a value that Postfix
would refuse is a fault with its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mailmapd.errors import ConfigError, Fault
from mailmapd.formats.postfix_cf_syntax import CfFile, read_cf_file

_LEGACY = ("table", "select_field", "where_field")
_LONGEST_INTEGER = 2**31 - 1
_MYSQL_ONLY = ("idle_interval", "require_result_set", "retry_interval", "tls_verify_cert")
"""Not read by sqlite_table(5), so that a wrong value does not matter there."""

_KNOWN = frozenset(
    [
        *_LEGACY,
        "additional_conditions",
        "charset",
        "dbname",
        "dbpath",
        "domain",
        "expansion_limit",
        "hosts",
        "idle_interval",
        "option_file",
        "option_group",
        "password",
        "query",
        "require_result_set",
        "result_format",
        "retry_interval",
        "tls_CAfile",
        "tls_CApath",
        "tls_cert_file",
        "tls_ciphers",
        "tls_key_file",
        "tls_verify_cert",
        "user",
    ]
)


@dataclass(frozen=True, slots=True)
class PostfixCf:
    """One file's parameters with mysql_table(5)'s defaults.

    `query` is the template, also when the file has the older table, select_field and where_field.
    `sqlite` says that it is a file of sqlite_table(5), which names a dbpath. `tls_verify_cert` is
    None when not set. Intervals are in seconds. `lines` tells where each parameter begins,
    `warnings` what Postfix would log, `unknown` what it would pass over.
    """

    file: str
    query: bytes
    result_format: bytes = b"%s"
    domain: tuple[str, ...] = ()
    expansion_limit: int = 0
    require_result_set: bool = True
    sqlite: bool = False
    dbpath: str = ""
    hosts: tuple[str, ...] = ("localhost",)
    user: str = ""
    password: str = field(default="", repr=False)
    dbname: str = ""
    charset: str = "utf8mb4"
    retry_interval: int = 60
    idle_interval: int = 60
    option_file: str | None = None
    option_group: str = "client"
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    tls_ca_file: str | None = None
    tls_ca_path: str | None = None
    tls_ciphers: str | None = None
    tls_verify_cert: bool | None = None
    lines: Mapping[str, int] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict, repr=False)

    def where(self, parameter: str) -> str:
        """Return ``line 7: result_format`` for a fault in this file.

        The older form's parameters stand for a missing query.
        """
        if parameter == "query" and parameter not in self.lines:
            parameter = "table"
        return (
            f"line {self.lines[parameter]}: {parameter}" if parameter in self.lines else parameter
        )


def read_postfix_cf(path: Path | str) -> PostfixCf:
    """Read a table's file. Raise ConfigError with every fault when it cannot be read or Postfix would refuse it."""
    return _Reader(read_cf_file(Path(path))).read()


class _Reader:
    """Takes typed values out of a file and collects the faults."""

    def __init__(self, cf: CfFile) -> None:
        self._cf = cf
        self._sqlite = "dbpath" in cf.parameters and "dbname" not in cf.parameters
        self._faults: list[Fault] = []

    def read(self) -> PostfixCf:
        parameters = self._cf.parameters
        self._require(
            *(("dbpath", "the SQLite file") if self._sqlite else ("dbname", "the database's name"))
        )
        if "result_format" in parameters:
            self._require("result_format", "%s, or leave it out")
        read = PostfixCf(
            file=self._cf.file,
            query=self._query(),
            result_format=self._bytes("result_format") or b"%s",
            domain=self._words("domain")
            or tuple(filter(None, [self._text("domain")])),  # a list of commas matches nothing
            expansion_limit=self._integer("expansion_limit", 0),
            require_result_set=self._boolean("require_result_set") is not False,
            sqlite=self._sqlite,
            dbpath=self._text("dbpath"),
            hosts=self._words("hosts") or ("localhost",),
            user=self._text("user"),
            password=self._text("password"),
            dbname=self._text("dbname"),
            charset=self._text("charset") or "utf8mb4",
            retry_interval=self._integer("retry_interval", 60, minimum=1),
            idle_interval=self._integer("idle_interval", 60, minimum=1),
            option_file=self._text("option_file") or None,
            option_group=self._text("option_group") if "option_group" in parameters else "client",
            tls_cert_file=self._text("tls_cert_file") or None,
            tls_key_file=self._text("tls_key_file") or None,
            tls_ca_file=self._text("tls_CAfile") or None,
            tls_ca_path=self._text("tls_CApath") or None,
            tls_ciphers=self._text("tls_ciphers") or None,
            tls_verify_cert=self._boolean("tls_verify_cert"),
            lines={name: parameter.line for name, parameter in parameters.items()},
            warnings=tuple(self._cf.warnings),
            unknown={name: self._text(name) for name in parameters if name not in _KNOWN},
        )
        if self._faults:
            raise ConfigError(self._faults)
        return read

    def _query(self) -> bytes:
        query = self._bytes("query")
        if query:
            return query
        if not any(self._bytes(name) for name in _LEGACY):
            self._faults.append(
                Fault(
                    self._cf.file,
                    "query",
                    "is missing",
                    "write query = SELECT … WHERE … = '%s' (or the older table, select_field, where_field)",
                )
            )
            return b""
        for name in _LEGACY:
            self._require(
                name, "its part of SELECT select_field FROM table WHERE where_field = '%s'"
            )
        table, select_field, where_field, conditions = [
            self._bytes(name) for name in (*_LEGACY, "additional_conditions")
        ]
        return b"SELECT %b FROM %b WHERE %b='%%s' %b" % (
            select_field,
            table,
            where_field,
            conditions,
        )

    def _require(self, name: str, remedy: str) -> None:
        if not self._bytes(name):
            problem = "is empty" if name in self._cf.parameters else "is missing"
            self._faults.append(
                Fault(self._cf.file, self._where(name), problem, f"write {name} = {remedy}")
            )

    def _is_read(self, name: str) -> bool:
        return name in self._cf.parameters and not (self._sqlite and name in _MYSQL_ONLY)

    def _bytes(self, name: str) -> bytes:
        parameter = self._cf.parameters.get(name)
        return parameter.value if parameter else b""

    def _text(self, name: str) -> str:
        return self._bytes(name).decode("utf-8", "surrogateescape")

    def _words(self, name: str) -> tuple[str, ...]:
        return tuple(re.findall(r"[^, \t\r\n]+", self._text(name)))

    def _integer(self, name: str, default: int, minimum: int | None = None) -> int:
        if not self._is_read(name):
            return default
        text = self._text(name)
        number = int(text) if re.fullmatch(r"[+-]?0*[0-9]{1,10}", text) else None
        if number is None or abs(number) > _LONGEST_INTEGER:
            self._faults.append(
                Fault(
                    self._cf.file,
                    self._where(name),
                    f"{text!r} is not a whole number",
                    f"write {name} = {default}",
                )
            )
            return default
        if minimum is not None and number < minimum:
            self._faults.append(
                Fault(
                    self._cf.file,
                    self._where(name),
                    f"{number} is less than {minimum}",
                    f"write {name} = {default}",
                )
            )
        return number

    def _boolean(self, name: str) -> bool | None:
        if not self._is_read(name):
            return None
        text = self._text(name)
        if text.lower() not in ("yes", "no"):
            self._faults.append(
                Fault(
                    self._cf.file,
                    self._where(name),
                    f"{text!r} is neither yes nor no",
                    f"write {name} = yes",
                )
            )
        return text.lower() == "yes"

    def _where(self, name: str) -> str:
        parameter = self._cf.parameters.get(name)
        return f"line {parameter.line}: {name}" if parameter else name
