"""The filters of Dovecot 2.4's variables: ``%{user | username | lower}``.

Each takes the value that the one before it gives. They are told in the words of 2.3's variables,
which `dovecot_variables` knows: a part of the value, modifiers, a width.

    lower, upper, reverse            modifiers L, U, R
    username, domain                 what stands before and behind the first @
    truncate(N), substr(0, 1)        the first N bytes

Measured with 2.4.1: a value that is too short for a substr is an error there, and so nothing else of
substr can be said in SQL. See lib-var-expand of Dovecot 2.4.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mailmapd.errors import TemplateError

_MODIFIERS = {"lower": "L", "upper": "U", "reverse": "R"}
_PARTS = ("username", "domain")
_FIRST = re.compile(r"truncate\((\d{1,9})\)|substr\(0, *(1)\)")


class Filtered(NamedTuple):
    """A variable's name, and what its filters make of the value."""

    name: str
    part: str = ""
    modifiers: str = ""
    width: int = 0


def parse_filters(written: str) -> Filtered:
    """Return what stands between the braces. Raises TemplateError for a filter that has no equal."""
    name, *filters = [piece.strip() for piece in written.split("|")]
    result = Filtered(name)
    for filter_ in filters:
        first = _FIRST.fullmatch(filter_)
        if filter_ in _MODIFIERS and not result.width:
            result = result._replace(modifiers=result.modifiers + _MODIFIERS[filter_])
        elif filter_ in _PARTS and not (result.part or result.width or "R" in result.modifiers):
            result = result._replace(part=filter_)
        elif first is not None and not result.width and int(first[1] or first[2]):
            if first[2] and (name != "user" or result.part):
                raise TemplateError(
                    f"%{{{written}}}: {filter_} fails for an empty value. Use LEFT(…) in SQL"
                )
            result = result._replace(width=int(first[1] or first[2]))
        else:
            raise TemplateError(
                f"%{{{written}}}: the filter {filter_} cannot be applied outside Dovecot. "
                "Write it in SQL; lower, upper, reverse, username, domain and truncate(N) can"
            )
    return result
