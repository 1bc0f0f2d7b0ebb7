"""Matches: the parts of a key that the values of a row stand for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from mailmapd.provenance.reading import Part, Pattern, Text

_PLAIN = re.compile(rb"[\x21-\x7e]+(?: +[\x21-\x7e]+)*\Z")

Parts = dict[str, bytes]


def normal(value: bytes) -> bytes | None:
    """Return what all values that a followed collation takes for equal have in common; None where that is not proven.

    Printable ASCII in lower case without blanks at the end: for other text, collations equate more than letter case.
    """
    value = value.rstrip(b" ")
    return value.lower() if not value or _PLAIN.match(value) else None


def parts_of(pattern: Pattern, value: bytes) -> Iterator[Parts]:
    """Yield every way in which a normal value fits a pattern, as the parts of the key."""
    yield from _fit(pattern, 0, value, 0, {})


def _fit(
    pattern: Pattern, index: int, value: bytes, at: int, found: Mapping[str, bytes]
) -> Iterator[Parts]:
    if index == len(pattern):
        if at == len(value):
            yield dict(found)
        return
    piece = pattern[index]
    if isinstance(piece, Text):
        text = piece.text.lower().encode()
        if value.startswith(text, at):
            yield from _fit(pattern, index + 1, value, at + len(text), found)
        return
    last = index == len(pattern) - 1
    for end in (len(value),) if last else range(at, len(value) + 1):
        text = value[at:end]
        if not last and not _may_go_on(pattern, index + 1, value, end):
            continue
        if not isinstance(piece, Part):
            yield from _fit(pattern, index + 1, value, end, found)
        elif found.get(piece.name, text) == text:
            yield from _fit(pattern, index + 1, value, end, {**found, piece.name: text})


def _may_go_on(pattern: Pattern, index: int, value: bytes, at: int) -> bool:
    """Return whether literal text, if it comes next, stands there: a cheap look before going deeper."""
    piece = pattern[index]
    return not isinstance(piece, Text) or value.startswith(piece.text.lower().encode(), at)
