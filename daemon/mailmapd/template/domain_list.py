"""The ``domain`` parameter of mysql_table(5): which domains a table is asked about (string_list(3), match_list(3)).

Patterns are separated by commas and white space, and the first that matches decides. ``!pattern`` excludes,
``/file`` stands for the patterns in that file (lines that begin with ``#`` are comments), and anything else
is compared with the whole domain, without regard to case. A subdomain is a domain of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from mailmapd.errors import TemplateError
from mailmapd.template.fold import fold

_SEPARATORS = re.compile(rb"[, \t\r\n]+")

_MAX_FILE_DEPTH = 20
"""Files that name files; Postfix has no limit and would recurse until it dies."""


def matching_domains(patterns: Iterable[str]) -> frozenset[bytes] | None:
    """Return the domains (folded) that the list matches, or None when it is empty and every key may be asked.

    Raise TemplateError for a pattern that Postfix would refuse, for an unreadable file and for
    ``type:table`` patterns, which are not supported here.
    """
    decided: dict[bytes, bool] = {}
    empty = True
    for text in patterns:
        empty = empty and not text
        for domain, match in _parse(text.encode("utf-8", "surrogateescape"), True, 0):
            decided.setdefault(domain, match)
    return None if empty else frozenset(domain for domain, match in decided.items() if match)


def _parse(text: bytes, match: bool, depth: int) -> Iterator[tuple[bytes, bool]]:
    for token in filter(None, _SEPARATORS.split(text)):
        if token.startswith(b"#"):
            return  # as match_list(3): a comment within the list ends it
        item = token.lstrip(b"!")
        item_match = match ^ bool((len(token) - len(item)) % 2)
        shown = token.decode(errors="replace")
        if not item:
            raise TemplateError(f"domain: nothing after '!' in {shown!r}; write '!example.com'")
        if item.startswith(b"/"):
            yield from _read(item, item_match, depth)
        elif b":" in item and not item.startswith(b"["):
            raise TemplateError(
                f"domain: the lookup table {shown!r} is not supported in this list; "
                "write the domains themselves, or the name of a file that lists them"
            )
        else:
            yield fold(item) or item.lower(), item_match


def _read(path: bytes, match: bool, depth: int) -> Iterator[tuple[bytes, bool]]:
    name = path.decode(errors="replace")
    if depth >= _MAX_FILE_DEPTH:
        raise TemplateError(
            f"domain: {name} names itself, or files are nested more than {_MAX_FILE_DEPTH} deep"
        )
    try:
        lines = Path(name).read_bytes().split(b"\n")
    except OSError as error:
        raise TemplateError(f"domain: cannot read {name}: {error.strerror}") from error
    for line in lines:
        if not line.startswith(b"#"):
            yield from _parse(line, match, depth + 1)
