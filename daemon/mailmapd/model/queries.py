"""Queries: what clients ask, after a codec has decoded it.

Keys and user names are bytes exactly as they came; nothing here is folded, split or trusted yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class MapQuery(NamedTuple):
    """A Postfix lookup: `map` is the map's name as it came (empty over tcp_table, whose listener knows its one map)."""

    map: bytes
    key: bytes


class DictLookup(NamedTuple):
    """A Dovecot dict lookup of one key path such as ``shared/passdb/user@example.com``."""

    dict: str
    key: bytes
    user: bytes


@dataclass(frozen=True, slots=True)
class DictIterate:
    """A Dovecot dict iteration over all keys below `prefix`.

    `mask` limits the user names (``*`` and ``?``; empty means all), `limit` the rows (0 means all);
    with `no_value` only keys are wanted.
    """

    dict: str
    prefix: bytes
    mask: bytes
    limit: int
    no_value: bool


@dataclass(frozen=True, slots=True)
class DictCommit:
    """The end of a Dovecot dict transaction, whose changes nobody keeps: dicts are read only.

    `wants_reply` is false for 2.3's commit without waiting.
    """

    dict: str
    transaction: int
    wants_reply: bool


DictQuery = DictLookup | DictIterate | DictCommit
Query = MapQuery | DictLookup | DictIterate | DictCommit
