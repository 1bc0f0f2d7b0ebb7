"""Outcomes: what a table can say of one key, and where it knew it from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from mailmapd.cache.table_cache import Absence, Payload


class Source(IntEnum):
    """The source of an answer; the order is the order of cost, and of the metric's labels."""

    CACHE = 0
    STALE = 1
    DATABASE = 2


@dataclass(frozen=True, slots=True)
class Failure:
    """Nobody could tell. `reason` may be sent to a client: it names a database or a host, never a key or a secret.

    `lasts` says that the key itself is at fault, so that asking again at once would end the same.
    """

    reason: str
    lasts: bool = field(default=False, compare=False)


Known = Payload | Absence | Failure
"""An origin's word on a key."""


class Outcome(NamedTuple):
    """A row, an absence, or why neither is known."""

    known: Known
    source: Source
