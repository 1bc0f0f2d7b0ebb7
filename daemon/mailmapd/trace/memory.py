"""The memory of a running daemon, for each step of a story: whether it would have asked the database at all."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime

from mailmapd.config.address import UnixAddress
from mailmapd.config.schema import Config
from mailmapd.control.client import ControlClient, ControlError
from mailmapd.engine.look import Held
from mailmapd.stats.figures import as_age

Memory = dict[tuple[str, bytes], Held]
"""By table and SQL key."""


def remembered(config: Config, queries: Iterable[tuple[str, bytes | None]]) -> Memory | None:
    """Return what the running daemon holds of each query, by table and SQL key, or None when none can be asked."""
    control = config.listen.control
    if control is None or not isinstance(control.address, UnixAddress):
        return None
    memory: Memory = {}
    try:
        with ControlClient(control.address.path) as client:
            for table, sql_key in queries:
                if sql_key is not None:
                    memory[table, sql_key] = client.look(table, sql_key)
    except ControlError:
        return None
    return memory


def described(held: Held) -> str:
    """Return one phrase about an entry."""
    what = ("a row" if held.row else "no row") + _since(held)
    match held.age:
        case "fresh":
            return f"{what}, {_fresh(held)}"
        case "refresh":
            why = "" if held.followed else _not_followed(held)
            return f"{what}, which answers, and is fetched anew in the background then{why}"
        case "stale":
            stale = f"stale for {-held.fresh_for:.0f} s"
            return f"{what}, {stale}: the database is asked, and this stands in while it is away"
        case _:
            return "nothing"


def _since(held: Held) -> str:
    """Return since when the daemon knows so, by this host's clock."""
    if held.known_for is None:
        return ""
    moment = datetime.fromtimestamp(time.time() - held.known_for).astimezone()
    return f" known since {moment:%Y-%m-%d %H:%M:%S} ({as_age(held.known_for)})"


def _fresh(held: Held) -> str:
    """Return for how long an entry answers, and whether a change of it is heard of."""
    lasts = as_age(held.fresh_for)
    if held.followed:
        return f"followed: kept until it changes, for {lasts} at most"
    return f"fresh for {lasts}{_not_followed(held)}"


def _not_followed(held: Held) -> str:
    return f", not followed because {held.reason}" if held.reason else ", not followed"


def as_fields(memory: Memory | None, table: str, sql_key: bytes | None) -> dict[str, object] | None:
    """Return what a running daemon holds of a query for programs, if one was asked."""
    return None if memory is None or sql_key is None else asdict(memory[table, sql_key])
