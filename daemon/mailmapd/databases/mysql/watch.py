"""The watch over hosts: which are down, and the probes that bring them back.

A probe connects to a host that is down until it works. It starts once per interval, or as soon as
the last attempt has failed when that takes longer, so that service is back soon after the host,
whatever kept it away. Whatever else proves the host alive ends the probe.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from mailmapd.errors import DatabaseError
from mailmapd.tasks import end_tasks

if TYPE_CHECKING:
    from mailmapd.databases.interface import DatabaseObserver
    from mailmapd.databases.mysql.connection import ConnectionOwner, MysqlConnection
    from mailmapd.databases.mysql.host import Host, HostGroups
    from mailmapd.databases.mysql.opener import MysqlOpener

log = logging.getLogger(__name__)


class WatchListener(Protocol):
    """Told what the watch finds."""

    def opened(self, host: Host, connection: MysqlConnection) -> None:
        """Hear that a probe has connected."""

    def all_down(self) -> None:
        """Hear that no host answers any more."""


class HostWatch:
    """Marks the hosts of one database as down and up."""

    def __init__(
        self,
        name: str,
        hosts: HostGroups,
        *,
        opener: MysqlOpener,
        observer: DatabaseObserver,
        interval: float,
    ) -> None:
        self._name = name
        self._hosts = hosts
        self._opener = opener
        self._observer = observer
        self._interval = interval
        self._probes: dict[Host, asyncio.Task[None]] = {}
        self._listener: WatchListener
        self._owner: ConnectionOwner
        self._ended = False

    def start(self, listener: WatchListener, owner: ConnectionOwner) -> None:
        """Take who is told, and who owns the connections that probes open."""
        self._listener = listener
        self._owner = owner

    def mark_down(self, host: Host, error: DatabaseError, *, suspect: bool = False) -> None:
        """Leave a host alone until it is found back; one that is only suspect is probed at once."""
        host.last_error = str(error)
        if host.down or self._ended:
            return
        self._hosts.set_down(host, down=True)
        log.warning(
            "database %s: host is down, trying again every %g s: %s",
            self._name,
            self._interval,
            error,
        )
        self._observer.host_state(self._name, host.label, up=False)
        host.close_idle()
        self._probes[host] = asyncio.get_running_loop().create_task(
            self._probe(host, 0.0 if suspect else self._interval)
        )
        if not self._hosts.preferred:
            self._listener.all_down()

    def mark_up(self, host: Host) -> None:
        """Ask a host again, and let go of those that only stood in for it."""
        if not host.down:
            return
        self._hosts.set_down(host, down=False)
        host.last_error = ""
        host.paused_until = float("-inf")
        probe = self._probes.pop(host, None)
        if probe is not None and probe is not asyncio.current_task():
            probe.cancel()
        log.info("database %s: host %s is up again", self._name, host.label)
        self._observer.host_state(self._name, host.label, up=True)
        for other in self._hosts.hosts:
            if other not in self._hosts.preferred:
                other.close_idle()

    async def end(self) -> None:
        """End every probe."""
        self._ended = True
        probes = [probe for probe in self._probes.values() if probe is not asyncio.current_task()]
        await end_tasks(probes)

    async def _probe(self, host: Host, delay: float) -> None:
        loop = asyncio.get_running_loop()
        while host.down:
            await asyncio.sleep(delay)
            started = loop.time()
            try:
                connection = await self._opener.open(host.address, self._owner)
            except DatabaseError as error:
                host.last_error = str(error)
                delay = max(0.0, self._interval - (loop.time() - started))
            else:
                self._listener.opened(host, connection)
                return
