"""The fleet in words: each host as it says of itself, and what stands out beside this one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from mailmapd.stats.figures import NOTHING, as_age, as_count, as_ratio
from mailmapd.stats.snapshot import MemberState, Snapshot

SILENT = 10.0  # seconds after which a host stands out that nobody has heard of: it says something each second

HEADS = (
    "Host",
    "Heard of",
    "Version",
    "Queries",
    "Follows",
    "Memory",
    "Tables",
    "Last flush",
    "Proven",
)


class Figure(NamedTuple):
    """The figure of a host in one column; an odd one stands out."""

    text: str
    odd: bool = False


def rows(snapshot: Snapshot, members: Mapping[str, MemberState]) -> Iterator[tuple[Figure, ...]]:
    """Yield a row for each host, in the columns of `HEADS`; what differs from this host stands out."""
    own = snapshot["cluster"]["host"] if snapshot["cluster"] is not None else ""
    here = members.get(own)
    for name, member in members.items():
        silence = max(snapshot["time"] - member["at"], 0.0)
        yield (
            Figure(f"{name} (this host)" if name == own else name),
            Figure("stopped")
            if member["left"]
            else Figure(f"{as_age(silence)} ago", silence > SILENT),
            Figure(member["version"], here is not None and member["version"] != here["version"]),
            _queries(member, here),
            Figure(_followed(member, silence)),
            Figure(as_ratio(member["ratio"])),
            Figure(as_count(member["watched"])),
            Figure(_flushed(member), member["confirmed"] is False),
            Figure(f"{as_age(member['lag'])} ago"),
        )


def _queries(member: MemberState, here: MemberState | None) -> Figure:
    """Return what a host asks; one with another key would not be told of anything."""
    digest = member["config"][:8]
    if not member.get("same_key", True):  # an older daemon does not say
        return Figure(f"{digest} OTHER KEY", odd=True)
    same = here is None or member["config"] == here["config"]
    return Figure(digest) if same else Figure(f"{digest} DIFFERS", odd=True)


def _followed(member: MemberState, silence: float) -> str:
    """Return what a host follows; one that is not heard of vouches for nothing."""
    is_there = not member["left"] and silence <= SILENT
    return (", ".join(member["follows"]) if is_there else "") or NOTHING


def _flushed(member: MemberState) -> str:
    if member["confirmed"] is None:
        return NOTHING
    if member["left"]:
        return "later"  # as soon as it comes back
    return "done" if member["confirmed"] else "NOT YET"


def summary(snapshot: Snapshot, members: Mapping[str, MemberState]) -> str:
    """Return the fleet in a sentence, or nothing without one: how this host hears the others, and who lags behind."""
    cluster = snapshot["cluster"]
    if cluster is None:
        return ""
    proven = as_age(cluster["lag"])
    if not cluster["up"]:
        return f"Not joined: what was known counts from {proven} ago."
    followers = ", ".join(cluster["followers"]) or "nobody"
    found = [f"Nothing was missed until {proven} ago. Changes are vouched for by {followers}."]
    late = [name for name, member in members.items() if member["confirmed"] is False]
    if late:
        found.append(f"The last flush is not confirmed by {', '.join(late)}.")
    return " ".join(found)
