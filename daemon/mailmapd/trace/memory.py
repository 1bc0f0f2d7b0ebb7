"""The memory of a running daemon, for each step of a story: whether it would have asked the database at all."""

from __future__ import annotations

from mailmapd.config.address import UnixAddress
from mailmapd.config.schema import Config
from mailmapd.control.client import ControlClient, ControlError
from mailmapd.engine.look import Held
from mailmapd.stats.figures import as_age
from mailmapd.trace.story import Story

Memory = dict[tuple[str, bytes], Held]
"""By table and SQL key."""


def remembered(config: Config, story: Story) -> Memory | None:
    """Return what the running daemon holds of each query in the story, or None when none can be asked."""
    control = config.listen.control
    if control is None or not isinstance(control.address, UnixAddress):
        return None
    memory: Memory = {}
    try:
        with ControlClient(control.address.path) as client:
            for step in story.steps:
                if step.sql_key is not None:
                    memory[step.table, step.sql_key] = client.look(step.table, step.sql_key)
    except ControlError:
        return None
    return memory


def described(held: Held) -> str:
    """Return one phrase about an entry."""
    what = "a row" if held.row else "no row"
    match held.age:
        case "fresh":
            return f"{what}, {_fresh(held)}"
        case "refresh":
            return f"{what}, to be fetched anew in the background"
        case "stale":
            return f"{what}, stale for {-held.fresh_for:.0f} s: only while the database is away"
        case _:
            return "nothing"


def _fresh(held: Held) -> str:
    """Return for how long an entry answers, and whether a change of it is heard of."""
    lasts = as_age(held.fresh_for)
    if held.followed:
        return f"kept until it changes, for {lasts} at most: its table is followed"
    why = f": {held.reason}" if held.reason else ""
    return f"fresh for {lasts}; its table is not followed{why}"
