"""From dovecot-sql.conf.ext files to the draft: a database, a table per query, and a dict.

The queries are copied as they are, under `dovecot_query`; the password goes where the draft keeps
passwords. With `keep_files` the dict refers to the file instead (`dovecot_sql`), and its password
stays there. Which queries a dict uses follows from Dovecot's own sections: a file that only a
passdb names gives no userdb.

A section that does something else than let users in (`deny`, `master`, `pass`) stays in Dovecot: as
an ordinary passdb it would let in whom it keeps out. Other settings of a section are not part of a
dict either; the report says to write them into the new section, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailmapd.errors import ConfigError, Fault, TemplateError
from mailmapd.formats.doveconf import AuthSection
from mailmapd.formats.dovecot_sql_conf import DovecotConnect, DovecotSqlConf, read_dovecot_sql_conf
from mailmapd.importers.draft import Draft, DraftSection, unused_name
from mailmapd.template.dovecot_key import DictKey
from mailmapd.template.dovecot_query import DovecotQuery

DICT_SOCKET = "unix:/run/mailmapd/dict"
LOOKUP_SOCKET = "unix:/run/mailmapd/lookup"
_LISTEN = {"group": "dovecot", "peers": ["dovecot"]}
_OTHER_PURPOSES = ("deny", "master", "pass")
_PART_OF_DICT = frozenset({"driver", "args", *_OTHER_PURPOSES})
_QUERIES = {"passdb": "password_query", "userdb": "user_query", "iterate": "iterate_query"}


@dataclass(slots=True)
class DovecotImport:
    """What an import of Dovecot decided; `notes` are for the report."""

    dicts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def import_dovecot_sql(
    draft: Draft, files: list[Path], *, keep_files: bool = False
) -> DovecotImport:
    """Add each file with all of its queries. Raises ConfigError with the faults of all files."""
    return _Importer(draft, keep_files).add([(file, tuple(_QUERIES)) for file in files])


def import_auth_sections(
    draft: Draft, sections: list[AuthSection], *, keep_files: bool = False
) -> DovecotImport:
    """Add the files that the sections name, each with the queries that they use. Raises ConfigError."""
    uses: dict[str, set[str]] = {}
    notes = []
    for section in sections:
        purposes = [name for name in _OTHER_PURPOSES if section.settings.get(name) == "yes"]
        if section.driver == "sql" and purposes:
            about = f"driver sql ({section.args}) and {purposes[0]} = yes"
            notes.append(f"{section.kind} with {about} stays as it is in Dovecot's configuration.")
        elif section.driver == "sql":
            uses.setdefault(section.args, set()).update(
                {section.kind} if section.kind == "passdb" else {"userdb", "iterate"}
            )
            notes += _kept_settings(section)
        else:
            about = (
                f" ({section.args})"
                if section.driver in ("static", "dict") and section.args
                else ""
            )
            notes.append(
                f"{section.kind} with driver {section.driver}{about} stays as it is in Dovecot's configuration."
            )
    if not uses:
        raise ConfigError(
            [
                Fault(
                    "doveconf -n",
                    "",
                    "has no passdb or userdb with driver = sql",
                    "there is nothing to move",
                )
            ]
        )
    result = _Importer(draft, keep_files).add(
        [(Path(file), tuple(use for use in _QUERIES if use in used)) for file, used in uses.items()]
    )
    result.notes[:0] = notes
    return result


def _kept_settings(section: AuthSection) -> list[str]:
    """Return the note about settings that have to be written into the new section as well, if there are any."""
    kept = [
        f"{name} = {value}" for name, value in section.settings.items() if name not in _PART_OF_DICT
    ]
    if not kept:
        return []
    return [
        (
            f"{section.kind} with driver sql ({section.args}) has further settings. Write them into "
            f"its successor, too: {'; '.join(kept)}"
        )
    ]


class _Importer:
    def __init__(self, draft: Draft, keep_files: bool) -> None:
        self._draft = draft
        self._keep_files = keep_files
        self._faults: list[Fault] = []
        self._result = DovecotImport()

    def add(self, files: list[tuple[Path, tuple[str, ...]]]) -> DovecotImport:
        for file, uses in files:
            try:
                self._add(read_dovecot_sql_conf(file), uses)
            except ConfigError as error:
                self._faults += error.faults
        if self._faults:
            raise ConfigError(self._faults)
        self._draft.listen.setdefault("dict", [{"address": DICT_SOCKET, **_LISTEN}])
        self._draft.listen.setdefault("lookup_http", {"address": LOOKUP_SOCKET, **_LISTEN})
        return self._result

    def _add(self, conf: DovecotSqlConf, uses: tuple[str, ...]) -> None:
        texts: dict[str, str | None] = {use: getattr(conf, _QUERIES[use]) for use in uses}
        usable = {
            use: text
            for use, text in texts.items()
            if text is not None and self._usable(conf, use, text)
        }
        if not usable and not self._faults:
            self._faults.append(
                Fault(
                    conf.file,
                    "",
                    f"sets none of {', '.join(_QUERIES[use] for use in uses)}",
                    "there is nothing to move",
                )
            )
        settings = (
            {"dovecot_sql": str(Path(conf.file).absolute())}
            if self._keep_files
            else self._tables(conf, usable)
        )
        name = unused_name("auth", {section.name for section in self._draft.dicts})
        self._draft.dicts.append(DraftSection(name, settings, f"from {conf.file}"))
        self._result.dicts.append(name)

    def _tables(self, conf: DovecotSqlConf, queries: dict[str, str]) -> dict[str, Any]:
        """Add a table for each query; return the dict's settings."""
        database = self._draft.database(
            _database_settings(conf), conf.connect.password or "", f"from {conf.file}"
        )
        settings: dict[str, Any] = {}
        for use, text in queries.items():
            name = unused_name(f"dovecot_{use}", {section.name for section in self._draft.tables})
            comment = f"{_QUERIES[use]} of {conf.file}"
            self._draft.tables.append(
                DraftSection(name, {"database": database, "dovecot_query": text}, comment)
            )
            settings[use] = name
        return settings | (
            {"default_pass_scheme": conf.default_pass_scheme} if "passdb" in queries else {}
        )

    def _usable(self, conf: DovecotSqlConf, use: str, text: str) -> bool:
        try:
            query = DovecotQuery.compile(use, text)
            DictKey.of(use, query)
        except TemplateError as error:
            self._faults.append(conf.fault(_QUERIES[use], f"cannot be used: {error}", ""))
            return False
        if query.per_login:
            names = ", ".join(f"%{{{name}}}" for name in sorted(query.per_login))
            self._result.notes.append(
                f"{conf.file}: {_QUERIES[use]} uses {names}, which differ at every login, so its "
                "answers are hardly ever used again."
            )
        return True


def _database_settings(conf: DovecotSqlConf) -> dict[str, Any]:
    """Return the keys of [database.NAME]; those that only repeat a default are left out."""
    connect = conf.connect
    if conf.driver == "sqlite":
        return {"driver": "sqlite", "path": connect.path}
    settings: dict[str, Any] = {"driver": "mysql", "hosts": list(connect.hosts)}
    optional = {
        "user": connect.user,
        "dbname": connect.dbname,
        "option_file": connect.option_file,
        "option_group": connect.option_group,
    }
    settings |= {key: value for key, value in optional.items() if value}
    if connect.connect_timeout:
        settings["connect_timeout"] = f"{connect.connect_timeout}s"
    tls = _tls(connect)
    return settings | ({"tls": tls} if tls else {})


def _tls(connect: DovecotConnect) -> dict[str, Any]:
    files = {
        "ca": connect.ssl_ca,
        "capath": connect.ssl_ca_path,
        "cert": connect.ssl_cert,
        "key": connect.ssl_key,
        "ciphers": connect.ssl_cipher,
    }
    given = {key: value for key, value in files.items() if value}
    return (
        given | {"verify": connect.ssl_verify_server_cert}
        if connect.ssl_ca or connect.ssl_ca_path
        else {}
    )
