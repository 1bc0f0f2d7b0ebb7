"""The text of a configuration in pieces, each with one section, and what of a section an import writes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = re.compile(r"^\[([^\[\]]+)\]\s*(?:#.*)?$")
IMPORTED = {
    "database": frozenset(
        (
            *("driver", "path", "hosts", "user", "password", "password_file", "dbname", "charset"),
            *("option_file", "option_group", "retry_interval", "idle_interval", "tls"),
        )
    ),
    "table": frozenset(
        (
            *("database", "query", "result_format", "domain", "expansion_limit"),
            *("require_result_set", "postfix_cf", "dovecot_query"),
        )
    ),
    "map": frozenset(
        (
            *("tables", "search", "recipient_delimiter", "owner_request_special", "fold"),
            *("propagate_unmatched_extensions", "local_domains", "own_addresses"),
            "parent_domain_matches_subdomains",
        )
    ),
    "dict": frozenset(
        ("passdb", "userdb", "iterate", "dovecot_sql", "database", "default_pass_scheme")
    ),
}
"""Keys that an import writes; every other key of a section is the administrator's own and stays."""


@dataclass(slots=True)
class Section:
    """A section's header with its lines, and the comment in front of it."""

    header: str
    comment: str
    lines: str


def sections_of(text: str) -> list[Section]:
    """Return the text in pieces, each with one section; what stands before the first has no header."""
    blocks = [Section("", "", "")]
    comment = ""
    for line in _lines(text):
        header = _HEADER.match(line)
        if header is not None:
            blocks.append(Section(header[1].replace(" ", "").replace('"', ""), comment, line))
            comment = ""
        elif line.startswith("#"):
            comment += line
        else:
            blocks[-1].lines += comment + line
            comment = ""
    blocks[-1].lines += comment
    return blocks


def _lines(text: str) -> Iterator[str]:
    """Yield the lines; those of a string of several lines as one."""
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        if pending.count("'''") % 2 == 0 and pending.count('"""') % 2 == 0:
            yield pending
            pending = ""
    if pending:
        yield pending
