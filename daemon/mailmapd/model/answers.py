"""Answers: what a lookup can end in.

The four values are the whole vocabulary between engine, codecs and databases. `NotFound` is a
definite statement of the database ("no row"); whatever could not be told is `TempFail`, because
Postfix bounces mail for an address that is not found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Found(NamedTuple):
    """The key has a value; `value` is never empty (an empty result is not found, see mysql_table(5)).

    One is made for nearly every lookup, and a tuple is made in a fraction of a dataclass's time.
    """

    value: bytes


@dataclass(frozen=True, slots=True)
class NotFound:
    """The database definitely has no value for the key."""


@dataclass(frozen=True, slots=True)
class TempFail:
    """Nobody could tell; `reason` may be sent to the client: it names no secret and no key."""

    reason: str


@dataclass(frozen=True, slots=True)
class PermFail:
    """The question can never be answered as asked (no such map); Postfix defers the mail all the same."""

    reason: str


Answer = Found | NotFound | TempFail | PermFail

NOT_FOUND = NotFound()
