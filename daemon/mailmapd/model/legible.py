"""Text from outside, made fit for the eyes of people: what a terminal or a browser would obey is written out.

Keys come from strangers, rows from a database, messages from its server. A line feed among them
would forge a line of the log, an escape sequence would rewrite a terminal, and a mark that turns
the direction of writing would show another address than the one that is meant.
"""

from __future__ import annotations

import re

_OBEYED = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters of ASCII and ISO 8859, marks of direction, separators of lines, and halves of characters."""

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def legible(text: str, keep: str = "") -> str:
    """Return the text with such characters written as Python would write them, but for those in `keep`."""
    return _OBEYED.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def legible_bytes(data: bytes) -> str:
    """Return bytes as text: UTF-8 where they are, escapes where they are not."""
    return legible(data.decode("utf-8", "backslashreplace"))


def _escape(character: str) -> str:
    number = ord(character)
    return _SHORT.get(character) or (f"\\x{number:02x}" if number < 0x7F else f"\\u{number:04x}")
