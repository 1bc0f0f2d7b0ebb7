"""From .cf files to the draft's databases and tables: what each says, or the file itself by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailmapd.databases.host_list import parse_hosts
from mailmapd.errors import ConfigError, Fault, TemplateError
from mailmapd.formats.option_file import read_option_file, refused_option
from mailmapd.formats.postfix_cf import PostfixCf, read_postfix_cf
from mailmapd.importers.draft import Draft, DraftSection, unused_name
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.sql_quoting import check_literals, make_quote

_PREFIXES = re.compile(r"^(mysql|proxy)[-_.]+(?=.)")
_WRITING = re.compile(
    rb"\s*(INSERT|UPDATE|DELETE|REPLACE|TRUNCATE|CREATE|ALTER|DROP|LOAD|GRANT)\b", re.IGNORECASE
)
"""Statements that change what they look at; what a CALL does, only the database knows."""


class BadTable(Exception):
    """A .cf file that cannot be moved: `faults` say what is wrong with it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


@dataclass(slots=True)
class CfTables:
    """Adds each .cf file to the draft once, and remembers its table's name.

    With `keep_files` a table refers to its file (``postfix_cf``) and the file's password stays
    where it is.
    """

    draft: Draft
    keep_files: bool
    _names: dict[str, str] = field(default_factory=dict)
    _checked: dict[str, tuple[PostfixCf, MysqlTable]] = field(default_factory=dict)

    def check(self, files: Iterable[str], where: str) -> None:
        """Read the files that `where` in main.cf names. Raises BadTable with every fault of theirs."""
        faults: list[Fault] = []
        for file in dict.fromkeys(files):
            if file not in self._checked:
                try:
                    self._checked[file] = self._read(file, where)
                except ConfigError as error:
                    faults += error.faults
        if faults:
            raise BadTable(faults)

    def table(self, file: str) -> str:
        """Return the name of the table for a .cf file that was checked."""
        if file not in self._names:
            taken = {section.name for section in self.draft.tables}
            self._names[file] = unused_name(_table_name(file), taken)
            self._add(file, self._names[file])
        return self._names[file]

    def _read(self, file: str, where: str) -> tuple[PostfixCf, MysqlTable]:
        """Return what a file says. Raises ConfigError for what cannot be moved."""
        try:
            cf = read_postfix_cf(file)
        except ConfigError as error:
            raise ConfigError(
                [
                    Fault(
                        fault.file, fault.where, f"{fault.problem} (named in {where})", fault.remedy
                    )
                    for fault in error.faults
                ]
            ) from error
        try:
            template = MysqlTable.compile(
                _table_name(file),
                cf.query,
                cf.result_format,
                cf.domain,
                expansion_limit=cf.expansion_limit,
            )
        except TemplateError as error:
            parameter, _, problem = str(error).partition(": ")
            if parameter not in ("domain", "query", "result_format"):
                parameter, problem = "query", str(error)
            raise ConfigError([Fault(file, cf.where(parameter), problem, "")]) from error
        faults = list(self._faults(file, cf, where))
        if faults:
            raise ConfigError(faults)
        return cf, template

    def _faults(self, file: str, cf: PostfixCf, where: str) -> Iterator[Fault]:
        statement = _WRITING.match(cf.query)
        if statement is not None:
            word = statement[1].decode().upper()
            problem = f"{word} writes to the database, which a remembered answer would not repeat"
            yield Fault(file, cf.where("query"), problem, "")
        yield from _connection_faults(file, cf)
        if cf.option_file is not None and os.access(cf.option_file, os.R_OK):
            reason = refused_option(read_option_file(cf.option_file, cf.option_group))
            if reason:
                yield Fault(file, cf.where("option_file"), f"{cf.option_file}: {reason}", "")
        if self.keep_files:
            return
        if cf.sqlite:
            problem = f"{where} names it as a mysql: table, but it is one of sqlite_table(5)"
            yield Fault(file, cf.where("dbpath"), problem, "")
        for parameter, value in (("query", cf.query), ("result_format", cf.result_format)):
            if not _is_utf8(value):
                remedy = "save the file as UTF-8, or pass --keep-cf so that it is used as it is"
                problem = "is not UTF-8, which a configuration must be"
                yield Fault(file, cf.where(parameter), problem, remedy)

    def _add(self, file: str, name: str) -> None:
        cf, template = self._checked[file]
        comment = f"{file}{_scope_comment(template)}"
        if self.keep_files:
            self.draft.tables.append(DraftSection(name, {"postfix_cf": file}, comment))
            return
        database = self.draft.database(_database_section(cf), cf.password, f"from {file}")
        self.draft.tables.append(DraftSection(name, _table_section(cf, database), comment))


def _connection_faults(file: str, cf: PostfixCf) -> Iterator[Fault]:
    """Yield what keeps the daemon from asking as the file says, so that one such file is no end of all maps."""
    if cf.sqlite:
        return
    try:
        parse_hosts(cf.hosts)
    except ValueError as error:
        yield Fault(file, cf.where("hosts"), str(error), "")
    try:
        make_quote(cf.charset, no_backslash_escapes=False)
        check_literals(cf.query, cf.charset)
    except (ValueError, TemplateError) as error:
        yield Fault(file, cf.where("charset"), str(error), "")


def _table_name(file: str) -> str:
    """Return a name such as virtual_alias_maps for /etc/postfix/mysql-virtual_alias_maps.cf."""
    return _PREFIXES.sub("", Path(file).stem) or Path(file).stem


def _scope_comment(template: MysqlTable) -> str:
    if template.sql_key(b"user@example.com") == b"example.com":
        return "\nThe query uses the domain only: one answer serves all of a domain's addresses."
    return ""


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _table_section(cf: PostfixCf, database: str) -> dict[str, Any]:
    section: dict[str, Any] = {"database": database, "query": _text(cf.query)}
    if cf.result_format != b"%s":
        section["result_format"] = _text(cf.result_format)
    if cf.domain:
        section["domain"] = list(cf.domain)
    if cf.expansion_limit > 0:
        section["expansion_limit"] = cf.expansion_limit
    if not cf.require_result_set:
        section["require_result_set"] = False
    return section


def _database_section(cf: PostfixCf) -> dict[str, Any]:
    """Return the keys of [database.NAME]; those that only repeat a default are left out."""
    section: dict[str, Any] = {"driver": "mysql", "hosts": list(cf.hosts)}
    optional = {"user": cf.user, "dbname": cf.dbname, "option_file": cf.option_file}
    section |= {key: value for key, value in optional.items() if value}
    # A default that is written out makes no other database of the same server and account.
    defaults = {
        "charset": "utf8mb4",
        "option_group": "client",
        "retry_interval": 60,
        "idle_interval": 60,
    }
    for key, default in defaults.items():
        if getattr(cf, key) != default:
            section[key] = getattr(cf, key)
    tls = {
        "ca": cf.tls_ca_file,
        "capath": cf.tls_ca_path,
        "cert": cf.tls_cert_file,
        "key": cf.tls_key_file,
        "ciphers": cf.tls_ciphers,
    }
    given = {key: value for key, value in tls.items() if value}
    if given or cf.tls_verify_cert:
        section["tls"] = given | {"verify": bool(cf.tls_verify_cert)}
    return section
