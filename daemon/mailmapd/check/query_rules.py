"""Rules that look at the text of a query alone.

Answers that depend on time, patterns in columns, values without quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailmapd.check.finding import Finding, Level
from mailmapd.config.schema import CacheSection
from mailmapd.template.sql_lexer import code_of, without_comments

_TIME = re.compile(
    r"\b(NOW|SYSDATE|CURDATE|CURTIME|CURRENT_DATE|CURRENT_TIME|CURRENT_TIMESTAMP|LOCALTIME|LOCALTIMESTAMP|UNIX_TIMESTAMP|UTC_DATE|UTC_TIME|"
    r"UTC_TIMESTAMP)\b\s*(\(\s*\d*\s*\))?",
    re.IGNORECASE,
)
_RANDOM = re.compile(r"\b(RAND|UUID|UUID_SHORT)\s*\(", re.IGNORECASE)
_PATTERN = re.compile(r"\b(REGEXP|RLIKE|LIKE)\s+(?:BINARY\s+)?", re.IGNORECASE)
_COLUMN = re.compile(r"`?\b[A-Za-z_]\w*\b`?(?!\s*\()")
_EXPANSION = re.compile(r"%[sSuUdD1-9]")
_SHORT_TTL = (
    60.0  # seconds for which an answer that depends on time may be remembered without a word
)


def query_findings(
    name: str, query: str, cache: CacheSection, *, dovecot: bool = False
) -> Iterator[Finding]:
    """Yield what is worth knowing about a query's text. `cache` is how long its answers are remembered.

    In Dovecot's queries a variable may be part of a column's name, and a list of all users needs none.
    """
    where = f"table {name}"
    bare = code_of(query)
    time = _TIME.search(bare)
    if time and cache.ttl > _SHORT_TTL:
        problem = f"the answer depends on the time ({time[1].upper()}), and is remembered for {cache.ttl:.0f} s"
        yield Finding(
            Level.WARNING,
            "time_dependent",
            where,
            problem,
            f'set [table.{name}.cache] ttl = "30s", stale_ttl = "10m"',
        )
    random = _RANDOM.search(bare)
    if random:
        problem = (
            f"{random[1].upper()}() gives another answer each time, and a remembered one stays"
        )
        yield Finding(
            Level.WARNING,
            "random",
            where,
            problem,
            "choose among equals in Postfix, or accept one answer per ttl",
        )
    pattern = _pattern_in_column(bare)
    if pattern:
        problem = (
            f"{pattern} compares the key with a pattern in a column, so that "
            "each query reads the whole table"
        )
        remedy = (
            f'remember its answers for long: [table.{name}.cache] ttl = "30m", negative_ttl = "10m"'
        )
        yield Finding(Level.WARNING, "pattern_column", where, problem, remedy)
    if dovecot:
        return
    if _EXPANSION.search(bare.replace("%%", "")):
        problem = "a value is not in quotes: it could be read as SQL"
        yield Finding(
            Level.FAULT, "unquoted", where, problem, "write the quotes around it, such as '%s'"
        )
    if not _EXPANSION.search(query.replace("%%", "")):
        yield Finding(
            Level.NOTE,
            "constant",
            where,
            "the query does not use the key: every key has the same answer",
            "use '%s' or '%d'",
        )


def _pattern_in_column(bare: str) -> str:
    """Return the operator behind which a column stands, alone or inside of functions, or nothing."""
    for found in _PATTERN.finditer(bare):
        name = re.match(r"[\w.`]+", bare[found.end() :])
        if name is None:
            continue
        operand = name[0] + _bracketed(bare[found.end() + name.end() :])
        if _COLUMN.search(operand):
            return found[1].upper()
    return ""


def _bracketed(text: str) -> str:
    """Return the arguments of a function that follow its name, or nothing."""
    level = 0
    for at, letter in enumerate(text):
        level += (letter == "(") - (letter == ")")
        if level == 0 and not letter.isspace():
            return text[: at + 1] if letter == ")" else ""
    return ""


_IDENTITY = re.compile(
    r"SELECT\s+`?(\w+)`?\s+FROM\s+`?\w+`?\s+WHERE\s+`?(\w+)`?\s*=\s*'%[sS]'\s*;?\s*(AND\b.*)?$",
    re.IGNORECASE | re.DOTALL,
)


def maps_to_itself(query: str) -> bool:
    """Return whether a query can only answer with its own key."""
    match = _IDENTITY.match(without_comments(query).strip())
    return match is not None and match[1].lower() == match[2].lower()
