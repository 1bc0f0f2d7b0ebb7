"""The state of the running daemon, put together from its parts: snapshots, and the view of the status page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mailmapd import __version__
from mailmapd.app.served import Served
from mailmapd.engine.meters import BUCKETS
from mailmapd.engine.orders import NoFleet
from mailmapd.errors import ClusterError
from mailmapd.stats.activity import between
from mailmapd.stats.history import History
from mailmapd.stats.snapshot import (
    ListenerState,
    MemberState,
    Snapshot,
    cache_state,
    database_states,
    lookups_by_name,
)
from mailmapd.web.shown_sections import shown_sections
from mailmapd.web.status_view import StatusView

if TYPE_CHECKING:
    from mailmapd.app.recent_errors import RecentErrors


def take_snapshot(daemon: Served) -> Snapshot:
    """Return every counter of the daemon."""
    engine = daemon.engine
    return {
        "version": __version__,
        "started": daemon.started,
        "time": time.time(),
        "config": {
            "file": daemon.config.file,
            "loaded": daemon.last_reload,
            "reload_failed": daemon.reload_failed,
        },
        "problems": daemon.health.problems(),
        "buckets": list(BUCKETS),
        "maps": lookups_by_name(
            daemon.map_meters, {name: map_.avoided for name, map_ in engine.maps.items()}
        ),
        "dicts": lookups_by_name(
            daemon.dict_meters, {name: dict_.avoided for name, dict_ in engine.dicts.items()}
        ),
        "tables": {name: cache_state(table) for name, table in engine.tables.items()},
        "feeds": daemon.feeds(),
        "cluster": daemon.cluster_state(),
        "databases": database_states(engine, daemon.database_meter.queries, daemon.reached),
        "listeners": _listener_states(daemon),
        "memory": {"max_bytes": daemon.memory.max_bytes, "bytes": daemon.memory.used},
    }


def _listener_states(daemon: Served) -> dict[str, ListenerState]:
    found: dict[str, ListenerState] = {}
    for listener in daemon.listeners:
        state = found.setdefault(
            listener.name,
            {"connections": 0, "refused": 0, "protocol_errors": {}, "unknown_names": 0},
        )
        state["connections"] += len(listener.connections)
        state["refused"], state["protocol_errors"] = (
            listener.meter.refused,
            dict(listener.meter.violations),
        )
        state["unknown_names"] = daemon.unknown[listener.name].total
    return found


class StatusSource:
    """Makes the view of the status page.

    `tick` must be called now and then: rates are those since the last tick but one, and the last
    hour is made of what ticks saw.
    """

    def __init__(self, daemon: Served, recent: RecentErrors | None) -> None:
        self._daemon = daemon
        self._recent = recent
        self._before: Snapshot | None = None
        self._latest: Snapshot | None = None
        self._history = History()

    def tick(self) -> None:
        """Remember this moment, to compare later ones with."""
        self._before, self._latest = self._latest, take_snapshot(self._daemon)
        self._history.add(self._latest)

    async def view(self) -> StatusView:
        """Return what the page shows now."""
        members = await self._members()
        snapshot = take_snapshot(self._daemon)
        errors = [] if self._recent is None else self._recent.lines
        return StatusView(
            snapshot,
            between(self._before or self._latest, snapshot),
            self._history.minutes(snapshot["buckets"]),
            shown_sections(self._daemon.config),
            errors,
            members,
        )

    async def _members(self) -> dict[str, MemberState]:
        """Return the hosts of the fleet, or none while nobody knows them: then the problems say why."""
        state = self._daemon.cluster_state()
        if state is None or not state["up"]:
            return {}
        try:
            return await self._daemon.members()
        except (NoFleet, ClusterError):
            return {}
