"""Hosts: which of them answer, in what order they are asked, and the connections that each has."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mailmapd.databases.interface import HostStatus

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from mailmapd.databases.host_list import HostAddress
    from mailmapd.databases.mysql.connection import MysqlConnection
    from mailmapd.databases.mysql.identity import Identity


class Expected(NamedTuple):
    """The server that a host's connections have to reach, and who hears of one that reaches another."""

    identity: Identity
    strange: Callable[[], None]


class Host:
    """One host: its idle connections (the one used last at the end), its busy ones, and how many are being opened.

    `cuts` counts logins in a row that the host cut short. `generation` grows when a connection is lost in
    use: those opened before are suspect. `refusals` counts queries that it refused as it would any other.
    """

    __slots__ = (
        "address",
        "busy",
        "connecting",
        "cuts",
        "down",
        "expected",
        "generation",
        "idle",
        "label",
        "last_error",
        "last_reply",
        "paused_until",
        "refusals",
        "stalled",
    )

    def __init__(self, address: HostAddress) -> None:
        self.address = address
        self.label = address.label
        self.down = False
        self.expected: Expected | None = None
        self.last_error = ""
        self.last_reply = float("-inf")
        self.paused_until = float("-inf")
        self.idle: list[MysqlConnection] = []
        self.busy: set[MysqlConnection] = set()
        self.connecting = 0
        self.cuts = 0
        self.generation = 0
        self.refusals = 0
        self.stalled = 0

    @property
    def connections(self) -> int:
        """Return the number of open connections."""
        return len(self.idle) + len(self.busy)

    def is_paused(self, now: float) -> bool:
        """Tell whether it is to be left with the connections that it has; one that has none is asked all the same."""
        return self.paused_until > now and bool(self.connections or self.connecting)

    def forget(self, connection: MysqlConnection) -> None:
        """Remove a connection from whichever list holds it."""
        self.busy.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)

    def close_idle(self) -> None:
        """Close every idle connection."""
        idle, self.idle = self.idle, []
        for connection in idle:
            connection.close()

    def status(self) -> HostStatus:
        """Return what the outside sees."""
        return HostStatus(
            self.label, not self.down, len(self.idle), len(self.busy), self.last_error
        )


class HostGroups:
    """The hosts in the order of mysql_table(5): those marked as replicas, then UNIX sockets, then the others.

    At random within each group.

    `preferred` are the hosts to ask now: those of the first group that are not down. It is empty when every host is.
    """

    def __init__(
        self, addresses: Sequence[HostAddress], replicas: Sequence[str], rng: random.Random
    ) -> None:
        self.hosts = [Host(address) for address in addresses]
        self._rng = rng
        marked = [host for host in self.hosts if host.label in replicas]
        others = [host for host in self.hosts if host.label not in replicas]
        groups = [
            marked,
            [host for host in others if host.address.is_local],
            [host for host in others if not host.address.is_local],
        ]
        self._groups = [group for group in groups if group]
        self.preferred = self._groups[0]

    @property
    def connections(self) -> int:
        """Return the number of connections that are open or on their way, over all hosts."""
        return sum([len(host.idle) + len(host.busy) + host.connecting for host in self.hosts])

    def set_down(self, host: Host, down: bool) -> None:
        """Note that a host is down or up again."""
        host.down = down
        self.preferred = next(
            (up for group in self._groups if (up := [host for host in group if not host.down])), []
        )

    def in_order(self) -> list[Host]:
        """Return the hosts that are not down, the preferred ones first."""
        return [host for group in self._groups for host in group if not host.down]

    def take_idle(self) -> MysqlConnection | None:
        """Return an idle connection to a preferred host and take it off the list; None when there is none."""
        preferred = self.preferred
        if len(preferred) > 1:
            preferred = self._rng.sample(preferred, len(preferred))
        for host in preferred:
            while host.idle:
                connection = host.idle.pop()
                if connection.is_usable:
                    return connection
        return None

    def to_connect(self, now: float) -> Host | None:
        """Return the host to open another connection to; None when none may be tried now."""
        for group in self._groups:
            ready = [
                host for host in group if not (host.down or host.stalled or host.is_paused(now))
            ]
            if ready:
                return self._rng.choice(ready)
        return None

    def why_down(self) -> str:
        """Return each host's last error."""
        return "; ".join([host.last_error for host in self.hosts if host.last_error])
