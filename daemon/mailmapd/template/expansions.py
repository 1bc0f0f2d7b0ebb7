"""Parsing of query and result_format templates: literal text and %-expansions, as db_common(3) reads them.

    %%  a percent sign          %u %U  local part          %1 ... %9  label of the key's domain, counted from the right
    %s %S  the whole address    %d %D  domain

In ``query`` all of them speak of the key. In ``result_format`` the lower-case ones speak of the
result value, the others of the key.
"""

from __future__ import annotations

import re

from mailmapd.errors import TemplateError

Piece = bytes | str
"""Literal text (bytes), or one expansion: the letter or digit behind the percent sign (str)."""

Pieces = tuple[Piece, ...]

_PERCENT = re.compile(rb"%(.?)", re.DOTALL)
_LETTERS = "sSuUdD"
_DIGITS = "123456789"


def parse(template: bytes, parameter: str) -> Pieces:
    """Split a template into literal text and expansions.

    Raise TemplateError, naming the parameter, for an expansion that does not exist; a lone ``%`` at the end is one.
    """
    if b"\0" in template:
        raise TemplateError(f"{parameter}: the template holds a NUL byte")
    pieces: list[Piece] = []
    literal = b""
    end = 0
    for found in _PERCENT.finditer(template):
        literal += template[end : found.start()]
        end = found.end()
        if found[1] == b"%":
            literal += b"%"
            continue
        if literal:
            pieces.append(literal)
            literal = b""
        pieces.append(_expansion(found[1], parameter))
    literal += template[end:]
    if literal:
        pieces.append(literal)
    return tuple(pieces)


def _expansion(letter_byte: bytes, parameter: str) -> str:
    letter = letter_byte.decode("latin-1")
    if not letter:
        raise TemplateError(f"{parameter}: a single '%' at the end; write '%%' for a percent sign")
    if letter not in _LETTERS + _DIGITS:
        shown = letter if letter.isprintable() and letter.isascii() else f"\\x{letter_byte[0]:02x}"
        raise TemplateError(
            f"{parameter}: there is no expansion '%{shown}'; there are %s %u %d %S %U %D and %1 "
            "to %9, and %% for a percent sign"
        )
    return letter


def labels(domain: bytes) -> list[bytes]:
    """Return the labels of a domain, rightmost last; empty ones do not count (argv_split(3) skips repeated dots)."""
    return [label for label in domain.split(b".") if label]


def highest_label(pieces: Pieces) -> int:
    """Return the highest N of all %N, or 0."""
    return max(
        (int(piece) for piece in pieces if isinstance(piece, str) and piece in _DIGITS), default=0
    )


def uses(pieces: Pieces, letters: str) -> bool:
    """Tell whether any of the expansions occurs."""
    return any(isinstance(piece, str) and piece in letters for piece in pieces)


def used_labels(pieces: Pieces) -> tuple[int, ...]:
    """Return every N of all %N, ascending, each once."""
    return tuple(
        sorted({int(piece) for piece in pieces if isinstance(piece, str) and piece in _DIGITS})
    )
