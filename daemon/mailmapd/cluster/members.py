"""Members: every host writes how it is into one hash, so that the others know who is there and how far each has read.

    HSET mailmapd:hosts mx1 {"run": "9f3c…", "version": "0.2.0", "at": 1790000000.0,      seconds since the epoch
                             "last_id": "1790000000000-0", "added": 731, "history": "5a…",   what it has carried out
                             "lag": 0.6, "ratio": 0.997, "config": "5d0c…", "follows": ["mail"], "watched": 7,
                             "left": false, "signature": "07…"}

A host that comes back goes on reading where its record says, as long as the stream reaches back to there. Its record is
signed with the key, if there is one: without the same key it does not believe what others say.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from mailmapd.cluster.message import Codec
from mailmapd.cluster.reader import Position, order
from mailmapd.model.legible import legible

_LONGEST = (
    8 * 1024
)  # bytes of a record; ours are half of one KiB, and a little more for each database
_IN_A_ROW = 16  # records that are read in a row
GONE = 86400.0  # seconds without a word after which a host is not expected any more


@dataclass(frozen=True, slots=True)
class Member:
    """One host: see the module. `lag` is the age of its last proof that it has missed nothing, in seconds."""

    run: str
    version: str
    at: float
    last_id: str
    added: int
    history: str
    lag: float
    ratio: float | None
    config: str
    follows: tuple[str, ...]
    watched: int
    left: bool
    signature: str = ""

    @property
    def position(self) -> Position:
        """Return where the host goes on when it comes back."""
        return Position(self.last_id, self.added, self.history)

    def has(self, identity: str, history: str) -> bool:
        """Return whether it has carried out this message of the server with a history, as far as that is known.

        It does not have to when it has stopped properly.
        """
        is_there = history in (self.history, "")
        return self.left or (is_there and order(self.last_id) >= order(identity))

    def signed(self, host: str, codec: Codec) -> Member:
        """Return the record as a host writes it that has this key, or none."""
        return replace(self, signature=codec.sign_record(self._said_of(host)))

    def is_signed(self, host: str, codec: Codec) -> bool:
        """Return whether this host has written it, with this key, or without one where there is none."""
        return hmac.compare_digest(
            self.signature.encode("utf-8", "replace"),
            codec.sign_record(self._said_of(host)).encode(),
        )

    def _said_of(self, host: str) -> bytes:
        return json.dumps([host, asdict(replace(self, signature=""))]).encode()

    def encode(self) -> bytes:
        """Return the record."""
        return json.dumps(asdict(self)).encode()


_TYPES: dict[str, Any] = {
    "run": str,
    "version": str,
    "at": int | float,
    "last_id": str,
    "added": int,
    "history": str,
    "lag": int | float,
    "ratio": int | float | None,
    "config": str,
    "follows": list,
    "watched": int,
    "left": bool,
    "signature": str,
}


def decode_member(record: bytes) -> Member | None:
    """Return what a record says, or None when it is none that this version understands."""
    if len(record) > _LONGEST:
        return None
    try:
        members = {"signature": "", **json.loads(record)}
        known = {attribute.name: members[attribute.name] for attribute in fields(Member)}
        if not all(isinstance(value, _TYPES[name]) for name, value in known.items()):
            return None
        if not all(
            math.isfinite(value) for value in known.values() if isinstance(value, int | float)
        ):
            return None  # an int that no float holds is an OverflowError
        order(known["last_id"])
        known["follows"] = tuple(str(name) for name in known["follows"])
        if not all(text == legible(text) for text in (*_texts(known), *known["follows"])):
            return None
        return Member(**known)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _texts(known: Mapping[str, Any]) -> list[str]:
    return [value for value in known.values() if isinstance(value, str)]


async def decode_members(records: Mapping[str, bytes]) -> dict[str, Member]:
    """Return the members that are understood, by name; people read those names, and what their records say.

    Lookups have their turn between them: whoever may write there may write a thousand.
    """
    found = {}
    for number, (name, record) in enumerate(sorted(records.items())):
        if number % _IN_A_ROW == _IN_A_ROW - 1:
            await asyncio.sleep(0)
        member = decode_member(record) if name == legible(name) else None
        if member is not None:
            found[name] = member
    return found


def gone(members: Mapping[str, Member]) -> list[str]:
    """Return the hosts of which nobody has heard for a day while others were heard of."""
    newest = max((member.at for member in members.values()), default=0.0)
    return [name for name, member in members.items() if newest - member.at > GONE]
