"""Address lists: the addresses in the result of an alias table, as Postfix finds them (tok822_parse(3)).

    a@example.com, b@example.com         commas, or white space alone, or both
    "john smith"@example.com             quoted local parts
    John Smith <john@example.com> (me)   phrases and comments are left out
    friends: a@example.com, b;           a named group stands for its members

An address is a tuple of tokens, because what may follow (route, ``host!user``, ``user%host``)
depends on what was quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_SPACE = b" \t\r\n"
_OPERATORS = b'|%!()<>@,;:\\".[]'
_BECOMES_QUOTED = re.compile(b"[\\x00-\\x20\\x7f" + re.escape(_OPERATORS) + b"]").search


class Token(NamedTuple):
    """A piece of an address.

    An operator (one character), or ``word``, ``quoted`` or ``literal`` (``[192.0.2.1]``) with its
    text.
    """

    kind: str
    text: bytes


def addresses(text: bytes) -> list[tuple[Token, ...]]:
    """Return the tokens of every address in the text, in order."""
    return _Parser(list(_tokens(text))).run()


def internal_form(tokens: tuple[Token, ...]) -> bytes:
    """Return the text of tokens without quotes."""
    return b"".join(
        [b"[%b]" % token.text if token.kind == "literal" else token.text for token in tokens]
    )


class _Parser:
    """Finds addresses from right to left, which is how a missing comma is noticed: a word to the left of a word."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._next = len(tokens) - 1
        self._pending: list[Token] = []
        self._found: list[tuple[Token, ...]] = []
        self._in_group = False

    def run(self) -> list[tuple[Token, ...]]:
        word_may_come = True
        while self._next >= 0:
            token = self._tokens[self._next]
            self._next -= 1
            match token.kind:
                case "word" | "quoted" | "literal":
                    if not word_may_come:
                        self._end_address()
                    self._pending.append(token)
                    word_may_come = False
                    continue
                case ";":
                    self._end_address()
                    self._in_group = True
                case ",":
                    self._end_address()
                case ":" if self._in_group:
                    self._end_address()
                    self._skip_to(",")
                case ">":
                    self._end_address()
                    self._take_route()
                case _:
                    self._pending.append(token)
            word_may_come = True
        self._end_address()
        self._found.reverse()
        return self._found

    def _end_address(self) -> None:
        if self._pending:
            self._pending.reverse()
            self._found.append(tuple(self._pending))
            self._pending = []

    def _take_route(self) -> None:
        """Take the address between ``<`` and the ``>`` just seen, and leave out the phrase before it."""
        while self._next >= 0 and self._tokens[self._next].kind != "<":
            self._pending.append(self._tokens[self._next])
            self._next -= 1
        self._end_address()
        self._skip_to(">;,:")
        if self._next >= 0 and self._tokens[self._next].kind == ":" and not self._in_group:
            self._next -= 1

    def _skip_to(self, kinds: str) -> None:
        while self._next >= 0 and self._tokens[self._next].kind not in kinds:
            self._next -= 1


def _tokens(text: bytes) -> Iterator[Token]:
    position = 0
    while position < len(text):
        char = text[position : position + 1]
        if char in _SPACE:
            position += 1
        elif char == b"(":
            position = _after_comment(text, position + 1)
        elif char in b'["':
            content, position = _collect(text, position + 1, b"]" if char == b"[" else b'"')
            yield Token("literal" if char == b"[" else "quoted", content)
            position += 1
        elif char != b"\\" and char in _OPERATORS:
            yield Token(char.decode(), char)
            position += 1
        else:
            content, position = _collect(text, position, _SPACE + _OPERATORS)
            yield Token("quoted" if _BECOMES_QUOTED(content) else "word", content)


def _collect(text: bytes, position: int, stop: bytes) -> tuple[bytes, int]:
    """Return the text up to a character of `stop`, without backslashes, white space as blanks, and its end."""
    content = bytearray()
    while position < len(text):
        char = text[position]
        if char == ord("\\"):
            position += 1
            if position == len(text):
                break
            char = text[position]
        elif char in stop:
            break
        content.append(ord(" ") if char in _SPACE else char)
        position += 1
    return bytes(content), position


def _after_comment(text: bytes, position: int) -> int:
    level = 1
    while position < len(text) and level:
        match text[position : position + 1]:
            case b"(":
                level += 1
            case b")":
                level -= 1
            case b"\\":
                position += 1
            case _:
                pass
        position += 1
    return position
