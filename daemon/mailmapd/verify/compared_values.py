"""Keys that exist: the values of the columns that a query compares with its key, in the forms that Postfix asks.

    hostname = '%s'                 [smtp.relay.example]:587 is a key as it stands
    client = '%s'                   192.0.2 is found for 192.0.2.7, 2001:db8 for 2001:db8::7, .example.com for a host
    '%s' REGEXP BINARY pattern      a text that the pattern is a part of
    alias = '%d' AND a.address = CONCAT('%u', '@', target)    user@alias of each user of target

A key that was invented has no row, and a comparison of two "not found" proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from mailmapd.databases.interface import Database
from mailmapd.template.statement import Statement
from mailmapd.verify.key_sources import DOMAIN, SECRET_COLUMN, quoted

_COLUMN = r"(?:`?\w+`?\s*\.\s*)?`?(\w+)`?"
_KEY = r"(?:\w+\s*\(\s*)?'%[sSuUdD]'\s*\)?"
_COMPARED = (
    re.compile(rf"{_COLUMN}\s*\)?\s*(?:=|\bLIKE\b|\bIN\s*\()\s*{_KEY}", re.IGNORECASE),
    re.compile(
        rf"{_KEY}\s*(?:=|\b(?:LIKE|REGEXP|RLIKE)\b)\s*(?:BINARY\s+)?{_COLUMN}", re.IGNORECASE
    ),
)
_COLUMNS = (
    b"SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = DATABASE()"
    b" ORDER BY table_name, ordinal_position"
)
_WORD = re.compile(r"[A-Za-z0-9_$]+")
_IPV4_PREFIX = re.compile(rb"\d{1,3}(?:\.\d{1,3}){0,2}")
_IPV6_PREFIX = re.compile(rb"[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4}){0,6}")
_OCTETS = 4


def compared_columns(query: str) -> list[str]:
    """Return the names of the columns that a query compares with its key, or with a part of it."""
    found = [name for pattern in _COMPARED for name in pattern.findall(query)]
    return list(dict.fromkeys(name.lower() for name in found))


async def compared_values(database: Database, query: str) -> dict[bytes, None]:
    """Return the values of the columns that a query compares with its key, each once. Raises DatabaseError."""
    names = compared_columns(query)
    values: dict[bytes, None] = {}
    if not names:
        return values
    for table, columns in (await columns_of(database, query)).items():
        for column in columns:
            if column.lower() in names:
                sql = f"SELECT DISTINCT {quoted(column)} FROM {quoted(table)}"
                statement = Statement("verify", (sql.encode("utf-8", "surrogateescape"),))
                async for _, rows in database.stream(statement):
                    values |= {value: None for (value,) in rows if value}
    return values


async def columns_of(database: Database, query: str) -> dict[str, list[str]]:
    """Return the tables that a query may read, each with its columns. Raises DatabaseError."""
    words = set(_WORD.findall(query))
    found: dict[str, list[str]] = {}
    for row in (await database.fetch(Statement("verify", (_COLUMNS,)))).rows:
        table, column = ((part or b"").decode("utf-8", "surrogateescape") for part in row)
        if table in words:
            found.setdefault(table, []).append(column)
    return found


async def domains_of_others(database: Database, query: str) -> set[tuple[bytes, bytes]]:
    """Return each domain that a query compares with the key's, with every other one of its row. Raises DatabaseError.

    The users of the one may be found under the name of the other.
    """
    names = compared_columns(re.sub("%[sSuU]", "", query))
    found: set[tuple[bytes, bytes]] = set()
    for table, columns in (await columns_of(database, query)).items():
        readable = [column for column in columns if not SECRET_COLUMN.search(column)]
        for column in readable:
            others = [other for other in readable if other != column]
            for other in others if column.lower() in names else ():
                one, two = quoted(column), quoted(other)
                sql = (
                    f"SELECT DISTINCT {one}, {two} FROM {quoted(table)} WHERE {one} LIKE '%.%'"
                    f" AND {two} LIKE '%.%' AND {two} NOT LIKE '%@%' AND {one} <> {two}"
                )
                statement = Statement("verify", (sql.encode("utf-8", "surrogateescape"),))
                async for _, rows in database.stream(statement):
                    found |= {
                        (domain, named)
                        for domain, named in rows
                        if domain and named and DOMAIN.fullmatch(domain) and DOMAIN.fullmatch(named)
                    }
    return found


def addresses_of_others(
    pairs: Iterable[tuple[bytes, bytes]], addresses: Iterable[bytes]
) -> Iterator[bytes]:
    """Yield the addresses of users under the other names of their domains; `pairs` are (name, domain)."""
    names: dict[bytes, list[bytes]] = {}
    for name, domain in sorted(pairs):
        names.setdefault(domain.lower(), []).append(name)
    for address in addresses if names else ():
        local, _, domain = address.rpartition(b"@")
        for name in names.get(domain.lower(), ()):
            yield local + b"@" + name


def asked_forms(value: bytes) -> Iterator[bytes]:
    """Yield the key that is found as this value, when that is not the value itself."""
    if _IPV4_PREFIX.fullmatch(value.removesuffix(b".")):
        octets = value.removesuffix(b".").split(b".")
        yield b".".join(octets + [b"7"] * (_OCTETS - len(octets)))
    elif b":" in value and _IPV6_PREFIX.fullmatch(value):
        yield value + b"::7"
    elif value.startswith(b"."):
        yield b"sub" + value
        yield b"user@sub" + value
    elif value.startswith(b"@"):
        yield b"someone" + value
    elif value.endswith(b"@"):
        yield value + b"nowhere.invalid"


def odd_forms(values: Iterable[bytes]) -> Iterator[bytes]:
    """Yield values in capitals, inside a text, and in bytes that are no UTF-8: what a map may fold, or may not."""
    for value in values:
        yield value.upper()
        yield value.swapcase()
        yield b"Subject: a " + value + b" text"
        try:
            other = value.decode("utf-8").encode("latin-1")
        except UnicodeError:
            other = value + b"\xe4"
        yield other if other != value else value + b"\xe4"
