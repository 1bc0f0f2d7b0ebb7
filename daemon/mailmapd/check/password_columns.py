"""Passwords where they do not belong: maps whose queries give them, secret tables that every account may ask."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from mailmapd.check.finding import Finding, Level
from mailmapd.config.address import TcpAddress
from mailmapd.config.references import OTHERS
from mailmapd.config.schema import Config, ListenAddress
from mailmapd.template.sql_lexer import code_of

_SELECTED = re.compile(r"\bSELECT\b(.*?)(?:\bFROM\b|$)", re.IGNORECASE | re.DOTALL)
_PASSWORD = re.compile(
    r"\b\w*(?:passw|passphrase|pwd|_hash|hash_|crypt)\w*|\bhash\b", re.IGNORECASE
)


def password_findings(config: Config, texts: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the maps that give passwords to whoever may ask them, unless that is said to be wanted."""
    for name, section in config.maps.items():
        for table in section.tables:
            column = password_column(texts[table])
            if column and not config.tables[table].secret:
                yield Finding(
                    Level.WARNING,
                    "password_column",
                    f"table {table}",
                    f"its query selects {column}, which looks like a password, for map {name}",
                    f"select another column; if Postfix needs it, write secret = true below [table.{table}]",
                )
        if any(config.tables[table].secret for table in section.tables):
            yield from _open_listeners(config, name)


def password_column(query: str) -> str:
    """Return the first selected name that looks like a password, or an empty text."""
    for selected in _SELECTED.findall(code_of(query)):
        found = _PASSWORD.search(selected)
        if found:
            return str(found[0])
    return ""


def _open_listeners(config: Config, name: str) -> Iterator[Finding]:
    listen = config.listen
    entries = [
        (f"listen.socketmap[{index}]", entry) for index, entry in enumerate(listen.socketmap)
    ]
    if name in listen.tcp_table:
        entries.append((f"listen.tcp_table.{name}", listen.tcp_table[name]))
    for where, entry in entries:
        if _lets_others_in(entry):
            yield Finding(
                Level.FAULT,
                "open_secret",
                where,
                f"every account of this machine may ask it for map {name}, which is secret",
                'use a UNIX socket with mode = "0660" and group = "postfix"',
            )


def _lets_others_in(entry: ListenAddress) -> bool:
    if isinstance(entry.address, TcpAddress):
        return True
    return entry.mode is not None and bool(entry.mode & OTHERS) and not entry.peers
