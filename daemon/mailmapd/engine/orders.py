"""Orders to flush, as members of JSON: what the control socket, a webhook and the hosts of a fleet say alike.

    {"user": "user@example.com"}    or key, domain, table, map, or all (true); a key may be limited to one table or map
    {…, "wait": 2.0}                wait 2 s for the other hosts of a fleet

Bytes of keys that are not UTF-8 are JSON's escapes of lone surrogates (U+DC80 to U+DCFF), as of Python's
`surrogateescape`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mailmapd.engine.flush import FlushRequest
from mailmapd.errors import MailmapdError

LONGEST_WAIT = 30.0  # seconds for which a flush waits for other hosts at most

_TEXTS = ("key", "user", "domain", "table", "map")


class OrderError(MailmapdError):
    """The members of an order mean nothing; the text says why."""


class NoFleet(MailmapdError):
    """Something was asked about other hosts, and there are none."""


@dataclass(frozen=True)
class FlushOrder:
    """A flush, with the members of JSON that say it to other hosts, and for how many seconds they are waited for."""

    request: FlushRequest
    members: Mapping[str, Any]
    wait: float | None = None


@dataclass(frozen=True)
class FlushReport:
    """The report of a flush: entries by table; the hosts that have not confirmed it, or why they were not told."""

    dropped: Mapping[str, int]
    unconfirmed: list[str] = field(default_factory=list)
    failure: str = ""


def decode_order(members: dict[str, Any]) -> FlushOrder:
    """Return a flush that may wait for other hosts. Raises OrderError."""
    wait = members.pop("wait", None)
    if wait is not None and (
        isinstance(wait, bool) or not isinstance(wait, int | float) or not 0 < wait <= LONGEST_WAIT
    ):
        raise OrderError(f"wait must be a number of seconds up to {LONGEST_WAIT:g}")
    said = dict(members)
    return FlushOrder(decode_flush(members), said, wait)


def decode_flush(members: dict[str, Any]) -> FlushRequest:
    """Return what members mean. Raises OrderError."""
    everything = members.pop("all", False)
    if not isinstance(everything, bool):
        raise OrderError('"all" must be true or false')
    for name, value in members.items():
        if name not in _TEXTS or not isinstance(value, str):
            raise OrderError(f"flush takes the texts {', '.join(_TEXTS)}, and all")
    try:
        values = {
            name: members[name].encode("utf-8", "surrogateescape") if name in members else None
            for name in _TEXTS[:3]
        }
    except UnicodeEncodeError:
        raise OrderError("a text holds half of a surrogate pair") from None
    request = FlushRequest(
        **values, table=members.get("table"), map=members.get("map"), everything=everything
    )
    fault = request.fault()
    if fault:
        raise OrderError(fault)
    return request
