"""Sources of keys for a comparison: the database itself, a file, a mail log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mailmapd.databases.interface import Database
from mailmapd.errors import ConfigError, Fault
from mailmapd.template.statement import Statement

SECRET_COLUMN = re.compile(r"pass|pwd|hash|secret|crypt|token|key", re.IGNORECASE)
DOMAIN = re.compile(rb"(?!-)(?:[A-Za-z0-9_-]{1,63}\.)+[A-Za-z][A-Za-z0-9-]{1,62}")
_LOGGED = re.compile(
    rb"(?:to|from|orig_to|sasl_username|sasl_sender)=<?([^\s<>,]+@[^\s<>,]+?)>?(?:[,\s]|$)"
)
_SEPARATORS = re.compile(rb"[,;\s]+")
_TEXT_COLUMNS = (
    b"SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = DATABASE()"
    b" AND data_type IN ('char', 'varchar', 'tinytext', 'text', 'mediumtext', 'longtext') ORDER "
    b"BY table_name, ordinal_position"
)
_WORD = re.compile(r"[A-Za-z0-9_$]+")


@dataclass(slots=True)
class Keys:
    """Addresses and domains, each once, in the order found."""

    addresses: dict[bytes, None] = field(default_factory=dict)
    domains: dict[bytes, None] = field(default_factory=dict)
    read: set[tuple[int, str, str]] = field(default_factory=set)
    """The databases' columns that have been read."""

    def add(self, text: bytes) -> None:
        """Take the addresses and domains out of a value such as a list of destinations."""
        for part in _SEPARATORS.split(text):
            local, at, domain = part.rpartition(b"@")
            if at and DOMAIN.fullmatch(domain):
                self.domains.setdefault(domain)
                if local:
                    self.addresses.setdefault(part)
            elif not at and DOMAIN.fullmatch(part):
                self.domains.setdefault(part)


async def keys_of_database(database: Database, queries: Iterable[str], keys: Keys) -> None:
    """Add every address and domain in the tables that the queries read. Raises DatabaseError."""
    words = {word for query in queries for word in _WORD.findall(query)}
    columns = await database.fetch(Statement("verify", (_TEXT_COLUMNS,)))
    for row in columns.rows:
        table, column = ((part or b"").decode("utf-8", "surrogateescape") for part in row)
        place = (id(database), table, column)
        if table not in words or SECRET_COLUMN.search(column) or place in keys.read:
            continue
        keys.read.add(place)
        sql = f"SELECT DISTINCT {quoted(column)} FROM {quoted(table)} WHERE {quoted(column)} LIKE '%.%'"
        async for _, rows in database.stream(
            Statement("verify", (sql.encode("utf-8", "surrogateescape"),))
        ):
            for (value,) in rows:
                keys.add(value or b"")


def quoted(name: str) -> str:
    """Return a name as SQL writes it."""
    return f"`{name.replace('`', '``')}`"


def keys_of_file(path: Path) -> list[bytes]:
    """Return the lines of a file, each a key as it stands. Raises ConfigError."""
    return [line for line in _read(path).splitlines() if line]


def keys_of_mail_log(path: Path) -> list[bytes]:
    """Return the senders and recipients that a mail log names. Raises ConfigError."""
    return list(dict.fromkeys(_logged(_read(path))))


def _logged(text: bytes) -> Iterator[bytes]:
    for line in text.splitlines():
        yield from _LOGGED.findall(line)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            [Fault(str(path), "", f"cannot be read: {error.strerror}", "check the path")]
        ) from error
