"""From the SQL of a Dovecot's passdbs and userdbs to the draft: a database, a table per query, and a dict.

The queries are copied as they are, under `dovecot_query`; the password goes where the draft keeps
passwords. With `keep_files` the dict refers to the file instead (`dovecot_sql`), and its password
stays there. Which queries a dict uses follows from Dovecot's own sections: a file that only a
passdb names gives no userdb, whatever it holds besides.

A section that does something else than let users in (`deny`, `master`, `pass`) stays in Dovecot: as
an ordinary passdb it would let in whom it keeps out. So do the sections of a single protocol, and
every query that cannot be asked from outside Dovecot. Each is a line of the report. Other settings
of a section are not part of a dict either; the report says to write them into the new section, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mailmapd.errors import ConfigError, Fault, TemplateError
from mailmapd.formats.doveconf import NAME as DOVECONF
from mailmapd.formats.doveconf import AuthSection
from mailmapd.formats.dovecot_sql import read_dovecot_sql, text_of
from mailmapd.formats.dovecot_sql_24 import OTHER_PURPOSES, is_of_24, sql_of_blocks
from mailmapd.formats.dovecot_sql_conf import DovecotConnect, DovecotSqlConf
from mailmapd.importers.draft import Draft, DraftSection, unused_name
from mailmapd.template.dovecot_key import DictKey
from mailmapd.template.dovecot_query import DovecotQuery

DICT_SOCKET = "unix:/run/mailmapd/dict"
LOOKUP_SOCKET = "unix:/run/mailmapd/lookup"
_LISTEN = {"group": "dovecot", "peers": ["dovecot"]}
_PART_OF_DICT = frozenset(
    {
        *("driver", "args", "query", "iterate_query", "default_password_scheme"),
        *("sql_query", "sql_iterate_query", "sql_driver", "sqlite_path", *OTHER_PURPOSES),
    }
)
_QUERIES = {"passdb": "password_query", "userdb": "user_query", "iterate": "iterate_query"}
_ARGS_SHOWN = ("static", "dict")
_STAYS = "stays as it is in Dovecot's configuration"
_FIRST_WITHOUT_DICT = (2, 4)
"""The first Dovecot that has no dict for passwords."""

Version = tuple[int, int]


@dataclass(slots=True)
class DovecotImport:
    """The decisions of an import of Dovecot; `notes` are for the report."""

    dicts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def import_dovecot_sql(
    draft: Draft,
    files: Sequence[Path],
    *,
    sections: Iterable[AuthSection] = (),
    keep_files: bool = False,
    version: Version | None = None,
) -> DovecotImport:
    """Add each file, with the queries that `sections` use of it, or all when they do not name it.

    A file that only sections name which stay in Dovecot stays with them: it may list masters.
    `version` is that of Dovecot, if it is known: it decides which socket is served. Raises
    ConfigError when nothing can be moved.
    """
    sections = list(sections)
    uses = _uses_by_file(section for section in sections if not _why_it_stays(section))
    importer = _Importer(draft, keep_files)
    for file in files:
        name = str(file.absolute())
        reasons = [
            reason
            for section in sections
            if section.args == name and (reason := _why_it_stays(section))
        ]
        if reasons and name not in uses:
            importer.leave(file, reasons)
            continue
        modern = is_of_24(text_of(file))
        importer.add(file, uses.get(name, tuple(_QUERIES)))
        version = _FIRST_WITHOUT_DICT if modern else version
    return importer.result(version)


def import_auth_sections(
    draft: Draft, sections: Sequence[AuthSection], *, keep_files: bool = False
) -> DovecotImport:
    """Add what the sections ask SQL for, each with the queries that they use. Raises ConfigError."""
    importer = _Importer(draft, keep_files)
    moving: list[AuthSection] = []
    for section in sections:
        reason = _why_it_stays(section)
        if reason:
            importer.note(reason)
        else:
            moving.append(section)
            importer.note(*_kept_settings(section))
    if not moving:
        problem = "has no passdb or userdb with driver = sql"
        raise ConfigError([Fault(DOVECONF, "", problem, "there is nothing to move")])
    importer.note(*_auth_cache(moving))
    for file, uses in _uses_by_file(moving).items():
        importer.add(Path(file), uses)
    importer.add_blocks([section for section in moving if not section.args])
    return importer.result(sections[0].root.version)


def _uses_by_file(sections: Iterable[AuthSection]) -> dict[str, tuple[str, ...]]:
    """Return the files of 2.3 that sections name, each with the queries that they use of it."""
    used: dict[str, set[str]] = {}
    for section in sections:
        if section.args:
            own = {"passdb"} if section.kind == "passdb" else {"userdb", "iterate"}
            used.setdefault(section.args, set()).update(own)
    return {file: tuple(use for use in _QUERIES if use in uses) for file, uses in used.items()}


def _title(section: AuthSection) -> str:
    args = f" ({section.args})" if section.args and section.driver in ("sql", *_ARGS_SHOWN) else ""
    scope = f"{section.scope}: " if section.scope else ""
    return f"{scope}{section.kind} with driver {section.driver}{args}"


def _why_it_stays(section: AuthSection) -> str:
    """Return the line of the report about a section that no dict takes the place of, or nothing."""
    if section.driver != "sql":
        return f"{_title(section)} {_STAYS}."
    purpose = next((name for name in OTHER_PURPOSES if section.settings.get(name) == "yes"), "")
    if purpose:
        return f"{_title(section)} and {purpose} = yes {_STAYS}."
    return f"{_title(section)} {_STAYS}: it is for this protocol only." if section.scope else ""


def _kept_settings(section: AuthSection) -> Iterator[str]:
    """Yield the note about settings that have to be written into the new section as well, if there are any."""
    kept = [
        f"{name} = {value}"
        for name, value in section.settings.items()
        if name.removeprefix(f"{section.kind}_") not in _PART_OF_DICT
        and not name.startswith("mysql ")
    ]
    if kept:
        where = "its successor, too"
        if section.kind == "passdb":
            where = "both of its successors, result_failure into the second alone"
        advice = f"has further settings. Write them into {where}"
        yield f"{_title(section)} {advice}: {'; '.join(kept)}"


def _auth_cache(sections: Sequence[AuthSection]) -> Iterator[str]:
    """Yield the note about an auth cache that would go on letting old passwords in, if there is one.

    It is about 2.3: in 2.4 the sections that `snippets` prints keep out of it.
    """
    root = sections[0].root
    size = root.value("auth_cache_size", "0")
    modern = root.version is not None and root.version >= _FIRST_WITHOUT_DICT
    if (
        not modern
        and size.split()[0] != "0"
        and any(section.kind == "passdb" for section in sections)
    ):
        yield (
            f"auth_cache_size = {size} would let old passwords in beside new ones. "
            "Remove it: with mailmapd it is 0."
        )


class _Importer:
    """Fills the draft; a query that cannot move is a fault, which is a note when anything else moves."""

    def __init__(self, draft: Draft, keep_files: bool) -> None:
        self._draft = draft
        self._keep_files = keep_files
        self._faults: list[Fault] = []
        self._result = DovecotImport()

    def note(self, *notes: str) -> None:
        self._result.notes += notes

    def result(self, version: Version | None) -> DovecotImport:
        if not self._result.dicts:
            raise ConfigError(self._faults)
        self.note(*(f"{_STAYS[0].upper()}{_STAYS[1:]}: {fault}" for fault in self._faults))
        if version is None or version < _FIRST_WITHOUT_DICT:
            self._draft.listen.setdefault("dict", [{"address": DICT_SOCKET, **_LISTEN}])
        if version is None or version >= _FIRST_WITHOUT_DICT:
            self._draft.listen.setdefault("lookup_http", {"address": LOOKUP_SOCKET, **_LISTEN})
        return self._result

    def leave(self, file: Path, reasons: Iterable[str]) -> None:
        """Leave a file to Dovecot."""
        self._faults += [Fault(str(file), "", f"not moved: {reason}", "") for reason in reasons]

    def add(self, file: Path, uses: tuple[str, ...]) -> None:
        """Add the queries of a file."""
        try:
            self._add(read_dovecot_sql(file), uses, str(file.absolute()))
        except ConfigError as error:
            self._faults += error.faults

    def add_blocks(self, sections: Sequence[AuthSection]) -> None:
        """Add the sections of 2.4, which hold their queries: a passdb and a userdb in one dict, as far as there are."""
        passdbs = [section for section in sections if section.kind == "passdb"]
        userdbs = [section for section in sections if section.kind == "userdb"]
        for pair in zip_longest(passdbs, userdbs):
            there = [section for section in pair if section is not None]
            try:
                self._add_blocks(there)
            except ConfigError as error:
                if len(there) == 1:
                    self._faults += error.faults
                    continue
                for section in there:  # of different databases, or one that cannot be read
                    try:
                        self._add_blocks([section])
                    except ConfigError as its_own:
                        self._faults += its_own.faults

    def _add_blocks(self, sections: Sequence[AuthSection]) -> None:
        blocks = {section.kind: section.block for section in sections}
        conf = sql_of_blocks(sections[0].root, blocks.get("passdb"), blocks.get("userdb"), DOVECONF)
        self._add(conf, tuple(_QUERIES), None)

    def _add(self, conf: DovecotSqlConf, uses: tuple[str, ...], file: str | None) -> None:
        texts: dict[str, str] = {
            use: text for use, key in _QUERIES.items() if (text := getattr(conf, key)) is not None
        }
        unused = [_QUERIES[use] for use in texts if use not in uses]
        wanted = {use: text for use, text in texts.items() if use in uses}
        usable = {use: text for use, text in wanted.items() if self._usable(conf, use, text)}
        if not wanted:
            problem = f"sets none of {', '.join(_QUERIES[use] for use in uses)}"
            self._faults.append(Fault(conf.file, "", problem, "there is nothing to move"))
        if unused:
            which = "passdb" if "passdb" not in uses else "userdb"
            what = f"no {which} section with driver = sql names the file"
            self.note(f"{conf.file}: {' and '.join(unused)} not moved, because {what}.")
        if not usable:
            return
        whole = file is not None and usable.keys() == texts.keys()
        settings = (
            {"dovecot_sql": file} if self._keep_files and whole else self._tables(conf, usable)
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
            self._faults.append(conf.fault(_QUERIES[use], f"cannot be moved: {error}", ""))
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
