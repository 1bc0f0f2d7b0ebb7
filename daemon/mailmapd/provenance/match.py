"""Matches: the parts of a key that the values of a row stand for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

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
    """Return every way in which a normal value fits a pattern, as the parts of the key."""
    if len(pattern) == 1 and isinstance(pattern[0], Part):  # as most are, for every changed row
        return iter(({pattern[0].name: value},))
    return _fit(pattern, 0, value, 0, {})


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
    for end in _ends(pattern, index, value, at):
        text = value[at:end]
        if not isinstance(piece, Part):
            yield from _fit(pattern, index + 1, value, end, found)
        elif found.get(piece.name, text) == text:
            yield from _fit(pattern, index + 1, value, end, {**found, piece.name: text})


def _ends(pattern: Pattern, index: int, value: bytes, at: int) -> Iterable[int]:
    """Return where a piece that is not literal may end: before the literal text behind it, if that is what follows."""
    if index == len(pattern) - 1:
        return (len(value),)
    following = pattern[index + 1]
    if not isinstance(following, Text):
        return range(at, len(value) + 1)
    return _places(value, following.text.lower().encode(), at)


def _places(value: bytes, text: bytes, at: int) -> Iterator[int]:
    """Yield every place of a text in a value."""
    place = value.find(text, at)
    while place >= 0:
        yield place
        place = value.find(text, place + 1)
