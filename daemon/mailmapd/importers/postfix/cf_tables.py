"""From .cf files to the draft's databases and tables: what each says, or the file itself by name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailmapd.errors import ConfigError, Fault, TemplateError
from mailmapd.formats.postfix_cf import PostfixCf, read_postfix_cf
from mailmapd.importers.draft import Draft, DraftSection, unused_name
from mailmapd.template.mysql_table import MysqlTable

_PREFIXES = re.compile(r"^(mysql|proxy)[-_.]+(?=.)")


@dataclass(slots=True)
class CfTables:
    """Adds each .cf file to the draft once, and remembers its table's name.

    With `keep_files` a table refers to its file (``postfix_cf``) and the file's password stays
    where it is. `faults` collects what is wrong with the files.
    """

    draft: Draft
    keep_files: bool
    faults: list[Fault] = field(default_factory=list)
    contents: dict[str, PostfixCf] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)

    def table(self, file: str, where: str) -> str:
        """Return the name of the table for a .cf file that `where` in main.cf names."""
        if file not in self._names:
            self._names[file] = unused_name(_table_name(file), set(self._names.values()))
            self._add(file, self._names[file], where)
        return self._names[file]

    def _add(self, file: str, name: str, where: str) -> None:
        try:
            cf = read_postfix_cf(file)
        except ConfigError as error:
            self.faults.extend(
                Fault(fault.file, fault.where, f"{fault.problem} (named in {where})", fault.remedy)
                for fault in error.faults
            )
            return
        try:
            template = MysqlTable.compile(
                name, cf.query, cf.result_format, cf.domain, expansion_limit=cf.expansion_limit
            )
        except TemplateError as error:
            self.faults.append(Fault(file, cf.where("query"), str(error), ""))
            return
        self.contents[file] = cf
        comment = f"{file}{_scope_comment(template)}"
        if self.keep_files:
            self.draft.tables.append(DraftSection(name, {"postfix_cf": file}, comment))
            return
        if cf.sqlite:
            self.faults.append(
                Fault(
                    file,
                    cf.where("dbpath"),
                    f"{where} names it as a mysql: table, but it is one of sqlite_table(5)",
                    "",
                )
            )
            return
        for parameter, value in (("query", cf.query), ("result_format", cf.result_format)):
            if not _is_utf8(value):
                remedy = "save the file as UTF-8, or pass --keep-cf so that it is used as it is"
                self.faults.append(
                    Fault(
                        file,
                        cf.where(parameter),
                        "is not UTF-8, which a configuration must be",
                        remedy,
                    )
                )
        database = self.draft.database(_database_section(cf), cf.password, f"from {file}")
        self.draft.tables.append(DraftSection(name, _table_section(cf, database), comment))


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
    for key in ("charset", "option_group", "retry_interval", "idle_interval"):
        if key in cf.lines:
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
