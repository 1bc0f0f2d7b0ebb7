"""The view of the status page, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mailmapd.stats.activity import Activity
from mailmapd.stats.history import Minute
from mailmapd.stats.snapshot import MemberState, Snapshot


@dataclass(frozen=True)
class StatusView:
    """A moment of the daemon.

    Its counters, what happened lately and in the minutes of the last hour, its configuration without
    secrets, the last errors, and the hosts of its fleet as far as they could be asked for.

    `settings` are sections with their keys and values; `errors` are (seconds since the epoch,
    level, message), the newest first.
    """

    snapshot: Snapshot
    activity: Activity
    minutes: Sequence[Minute]
    settings: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    errors: Sequence[tuple[float, str, str]]
    members: Mapping[str, MemberState]
