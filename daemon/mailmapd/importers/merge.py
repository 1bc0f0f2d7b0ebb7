"""Importing once more: a new draft joins the configuration that is being served.

The existing text stays as it is, comments and all, but for the sections that come from the same
place as one of the draft's and say something else now. So nothing that Postfix or Dovecot already
ask is lost, whatever the second import reads:

    a database or table    from the same file: its imported keys are renewed, other keys stay
                           equal to another one: that one is used
                           of the same name, but from elsewhere: the new one gets another name
    a map                  of the same name: renewed, for it stands for the same parameter
    listen                 only what is missing is added
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mailmapd.errors import ConfigError, Fault
from mailmapd.importers.draft import (
    Draft,
    DraftDatabase,
    DraftSection,
    is_same_server,
    unused_name,
)
from mailmapd.importers.sections import IMPORTED, Section, sections_of
from mailmapd.importers.toml_writer import password_file_name, render_section, toml_key


@dataclass(slots=True)
class Merged:
    """The configuration's new text, the databases whose passwords are new, and what to report."""

    text: str
    databases: list[DraftDatabase] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def merge(draft: Draft, existing: str, path: Path) -> Merged:
    """Return the existing configuration with the draft in it. Raises ConfigError when it is no TOML."""
    try:
        document = tomllib.loads(existing)
    except tomllib.TOMLDecodeError as error:
        remedy = "correct it, or move it away"
        raise ConfigError([Fault(str(path), "", f"is no TOML: {error}", remedy)]) from error
    return _Merger(deepcopy(draft), document, sections_of(existing), path.parent).merge()


class _Merger:
    def __init__(
        self, draft: Draft, document: dict[str, Any], blocks: list[Section], folder: Path
    ) -> None:
        self._draft = draft
        self._document = document
        self._blocks = blocks
        self._folder = folder
        self._merged = Merged("")
        self._new: list[str] = []

    def merge(self) -> Merged:
        """Take over databases first, then the tables that name them, then what names those."""
        self._listen()
        databases = {database.name: self._database(database) for database in self._draft.databases}
        tables = {}
        for table in self._draft.tables:
            settings = dict(table.settings)
            if "database" in settings:
                settings["database"] = databases.get(settings["database"], settings["database"])
            tables[table.name] = self._section("table", replace(table, settings=settings))
        for map_ in self._draft.maps:
            names = [tables.get(name, name) for name in map_.settings["tables"]]
            self._section("map", replace(map_, settings={**map_.settings, "tables": names}))
        for dict_ in self._draft.dicts:
            settings = {
                key: tables.get(value, value) if key in ("passdb", "userdb", "iterate") else value
                for key, value in dict_.settings.items()
            }
            self._section("dict", replace(dict_, settings=settings))
        kept = "".join(block.comment + block.lines for block in self._blocks)
        added = "\n".join(self._new)
        self._merged.text = f"{kept.rstrip()}\n\n{added}" if added else kept
        tomllib.loads(self._merged.text)
        return self._merged

    def _listen(self) -> None:
        served = self._document.get("listen", {})
        missing = {key: value for key, value in self._draft.listen.items() if key not in served}
        block = self._block("listen")
        if not missing:
            return
        self._merged.notes.append(f"[listen] now has {', '.join(missing)}, too.")
        text = render_section("listen", missing, "")
        if block is None:
            self._new.append(text)
        else:
            header, _, rest = block.lines.partition("\n")
            lines = text.partition("\n")[2]
            block.lines = f"{header}\n{lines}{rest}"

    def _database(self, database: DraftDatabase) -> str:
        known = self._document.get("database", {})
        for name, section in known.items():
            if self._is_same_database(section, database):
                return str(name)
        name = database.name
        if name in known and not self._is_of_same_origin(f"database.{name}", database.comment):
            name = unused_name(name, {*known, *(other.name for other in self._draft.databases)})
        renamed = replace(database, name=name)
        settings = dict(database.settings)
        if database.password:
            settings["password_file"] = password_file_name(renamed)
        self._put("database", name, settings, database.comment)
        self._merged.databases.append(renamed)
        return name

    def _is_same_database(self, section: Mapping[str, Any], database: DraftDatabase) -> bool:
        secret = ("password", "password_file")
        settings = {
            key: value for key, value in _imported("database", section).items() if key not in secret
        }
        same = is_same_server(settings, database.settings)
        return same and self._password(section) == database.password

    def _password(self, section: Mapping[str, Any]) -> str | None:
        """Return a served database's password, None when it cannot be read."""
        if "password_file" not in section:
            return str(section.get("password", ""))
        try:
            text = (self._folder / str(section["password_file"])).read_text(
                encoding="utf-8", errors="surrogateescape"
            )
        except OSError:  # another account, for all that is known
            return None
        return text.removesuffix("\n")

    def _section(self, kind: str, draft: DraftSection) -> str:
        known = self._document.get(kind, {})
        name = draft.name
        if kind == "table":
            for other, section in known.items():
                if _imported(kind, section) == draft.settings:
                    return str(other)
        if name in known and _imported(kind, known[name]) == draft.settings:
            return name
        foreign = name in known and kind != "map"
        if foreign and not self._is_of_same_origin(f"{kind}.{name}", draft.comment):
            drafted = self._draft.tables if kind == "table" else self._draft.dicts
            name = unused_name(name, {*known, *(other.name for other in drafted)})
        self._put(kind, name, draft.settings, draft.comment)
        return name

    def _put(self, kind: str, name: str, settings: Mapping[str, Any], comment: str) -> None:
        """Write a section in the place of the one with its name, or behind all others."""
        known = self._document.setdefault(kind, {})
        block = self._block(f"{kind}.{name}")
        own = known.get(name, {})
        extra = {
            key: value
            for key, value in own.items()
            if key not in IMPORTED[kind] and self._block(f"{kind}.{name}.{key}") is None
        }
        text = render_section(f"{kind}.{toml_key(name)}", {**settings, **extra}, comment)
        known[name] = {**own, **settings}
        if block is None:
            self._new.append(text)
            return
        self._merged.notes.append(f"[{kind}.{name}] was renewed.")
        block.comment, block.lines = "", f"{text}\n"

    def _is_of_same_origin(self, header: str, comment: str) -> bool:
        block = self._block(header)
        origin = comment.partition("\n")[0]
        return block is not None and bool(origin) and f"# {origin}\n" in block.comment

    def _block(self, header: str) -> Section | None:
        return next((block for block in self._blocks if block.header == header), None)


def _imported(kind: str, section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key in IMPORTED[kind]}
