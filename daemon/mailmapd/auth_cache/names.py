"""The user of an entry: the one name that an entry of a dict's table is about, if there is only one."""

from __future__ import annotations

from itertools import permutations

from mailmapd.engine.dicts.definition import UserQuery

_ELSEWHERE = b"elsewhere.invalid"  # a domain that nobody has, see RFC 2606
_OTHER = b"somebody-else"
_MOST_PARTS = 4  # parts of a key that are put together to a name


def user_of(query: UserQuery, sql_key: bytes) -> bytes | None:
    """Return the user that an entry is about, or None when it may be about several."""
    parts = sql_key.split(b"\0")
    if len(parts) > _MOST_PARTS:
        return None
    names = dict.fromkeys(parts)
    names |= dict.fromkeys(b"@".join(pair) for pair in permutations(dict.fromkeys(parts), 2))
    for name in names:
        if name and query.concerns(sql_key, name) and _nobody_else(query, sql_key, name):
            return name
    return None


def _nobody_else(query: UserQuery, sql_key: bytes, name: bytes) -> bool:
    """Return whether another local part, or another domain, makes another key."""
    local, at, domain = name.partition(b"@")
    others = [local + b"@" + _ELSEWHERE, _OTHER + at + domain]
    return not any(query.concerns(sql_key, other) for other in others)
