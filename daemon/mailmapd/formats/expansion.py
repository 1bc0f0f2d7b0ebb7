"""Expansion of ``$name`` in main.cf values, as postconf(5) describes it.

    $name  $(name)  ${name}              the value of name, expanded in its turn; nothing when it is not defined
    ${name?text}  ${name:text}           text when name is not empty; text when it is empty or not defined
    ${name?{one}:{other}}                either
    ${{a} == {b} ? {one} : {other}}   with ==, !=, <, <=, >= and >, and with the suffix ``level``
    $$                                   a dollar sign

A value that refers to itself, over however many steps, is an error, as it is for Postfix.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable

from mailmapd.formats.logical_lines import BLANKS

Lookup = Callable[[str], str | None]
"""Returns the raw value of a parameter, or None when it is not defined."""

_OPERATORS: dict[str, Callable[[int], bool]] = {
    "==": lambda delta: delta == 0,
    "!=": lambda delta: delta != 0,
    "<": lambda delta: delta < 0,
    "<=": lambda delta: delta <= 0,
    ">=": lambda delta: delta >= 0,
    ">": lambda delta: delta > 0,
}
_NAME = re.compile(r"[A-Za-z0-9_]*")
_CLOSING = {"(": ")", "{": "}"}


class ExpansionError(ValueError):
    """A value that Postfix itself would refuse: the text says what is wrong with it."""


def expand(text: str, lookup: Lookup) -> str:
    """Return `text` with every ``$name`` expanded.

    Raises ExpansionError for bad syntax and for a name that contains itself.
    """
    return _expand(text, lookup, ())


def references(text: str) -> set[str]:
    """Return the names that `text` refers to directly, whatever their values. Bad syntax yields what can be read."""
    names: set[str] = set()

    def note(name: str) -> str:
        names.add(name)
        return ""

    with contextlib.suppress(ExpansionError):
        expand(text, note)
    return names


def _expand(text: str, lookup: Lookup, seen: tuple[str, ...]) -> str:
    parts: list[str] = []
    at = 0
    while at < len(text):
        dollar = text.find("$", at)
        if dollar < 0:
            parts.append(text[at:])
            break
        parts.append(text[at:dollar])
        following = text[dollar + 1 : dollar + 2]
        if following == "$":
            parts.append("$")
            at = dollar + 2
        elif following in _CLOSING:
            end = _balanced(text, dollar + 1)
            parts.append(_evaluate(text[dollar + 2 : end], lookup, seen))
            at = end + 1
        else:
            match = _NAME.match(text, dollar + 1)
            if match is None or not match[0]:
                raise ExpansionError(f'a name is missing after "$" in "{_short(text)}"')
            parts.append(_value(match[0], lookup, seen))
            at = match.end()
    return "".join(parts)


def _balanced(text: str, start: int) -> int:
    """Return the place of the bracket that closes the one at `start`."""
    opening = text[start]
    level = 0
    for at in range(start, len(text)):
        if text[at] == opening:
            level += 1
        elif text[at] == _CLOSING[opening]:
            level -= 1
            if level == 0:
                return at
    raise ExpansionError(f'"{opening}" is not closed in "{_short(text)}"')


def _value(name: str, lookup: Lookup, seen: tuple[str, ...]) -> str:
    if name in seen:
        cycle = " → ".join(f"${part}" for part in (*seen[seen.index(name) :], name))
        raise ExpansionError(f"refers to itself: {cycle}")
    raw = lookup(name)
    return _expand(raw, lookup, (*seen, name)) if raw else ""


def _evaluate(expression: str, lookup: Lookup, seen: tuple[str, ...]) -> str:
    rest = expression.lstrip(BLANKS)
    if rest.startswith("{"):
        truth, rest = _compare(rest, lookup, seen)
        shown = "true" if truth else ""
    else:
        match = _NAME.match(rest)
        name = match[0] if match else ""
        rest = rest[len(name) :].lstrip(BLANKS)
        if not name or (rest and rest[0] not in "?:"):
            raise ExpansionError(f'a name is expected in "${{{_short(expression)}}}"')
        if not rest:
            return _value(name, lookup, seen)
        truth, shown = bool(lookup(name)), ""
    if not rest:
        return shown
    chosen = _choose(rest, truth, expression)
    return _expand(chosen, lookup, seen)


def _choose(rest: str, truth: bool, expression: str) -> str:
    if rest[0] not in "?:":
        raise ExpansionError(f'"?" or ":" is expected in "${{{_short(expression)}}}"')
    positive, otherwise = "", ""
    if rest[0] == "?":
        positive, rest = _operand(rest[1:])
        if rest and rest[0] != ":":
            raise ExpansionError(f'":" is expected in "${{{_short(expression)}}}"')
    if rest:
        otherwise, rest = _operand(rest[1:])
        if rest:
            raise ExpansionError(f'"{_short(rest)}" is left over in "${{{_short(expression)}}}"')
    return positive if truth else otherwise


def _operand(text: str) -> tuple[str, str]:
    """Return an operand and what follows it: ``{text}`` ends at its bracket, random text at the end."""
    stripped = text.lstrip(BLANKS)
    if not stripped.startswith("{"):
        return text, ""
    end = _balanced(stripped, 0)
    return stripped[1:end], stripped[end + 1 :].lstrip(BLANKS)


def _compare(text: str, lookup: Lookup, seen: tuple[str, ...]) -> tuple[bool, str]:
    left, rest = _operand(text)
    match = re.match(r"(==|!=|<=|>=|<|>)([A-Za-z0-9]*)", rest)
    if match is None or match[2] not in ("", "level"):
        raise ExpansionError(f'a comparison is expected after "{{{_short(left)}}}"')
    following = rest[match.end() :].lstrip(BLANKS)
    if not following.startswith("{"):
        raise ExpansionError(f'"{{…}}" is expected after "{match[0]}"')
    right, rest = _operand(following)
    one, other = _expand(left, lookup, seen), _expand(right, lookup, seen)
    return _OPERATORS[match[1]](_delta(one, other, match[2] == "level")), rest


def _delta(one: str, other: str, level: bool) -> int:
    if level:
        return (_level(one) > _level(other)) - (_level(one) < _level(other))
    if one.isascii() and one.isdigit() and other.isascii() and other.isdigit():
        return int(one) - int(other)
    left, right = one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape")
    return (left > right) - (left < right)


def _level(text: str) -> tuple[int, ...]:
    try:
        numbers = [int(part) for part in text.split(".")]
    except ValueError:
        raise ExpansionError(f'"{_short(text)}" is not a compatibility level') from None
    return tuple((*numbers, 0, 0, 0)[:3])


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}…"
