"""The daemon as its own parts see it: what the front hands on, and what the status page shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from mailmapd.cache.memory import Memory
from mailmapd.config.schema import Config
from mailmapd.engine.engine import Engine
from mailmapd.engine.look import Held, LookRequest
from mailmapd.engine.meters import ClientMeter, LookupMeter
from mailmapd.engine.orders import FlushOrder, FlushReport
from mailmapd.engine.unknown_names import UnknownNames
from mailmapd.metrics.database_meter import DatabaseMeter
from mailmapd.server.listener import Listener
from mailmapd.stats.snapshot import ClusterState, FeedState, MemberState, Snapshot


class Condition(Protocol):
    """The daemon's health, as it stands at a moment."""

    def hindrances(self) -> list[str]:
        """Return what keeps clients from being answered, one line each."""
        ...

    def problems(self) -> list[str]:
        """Return what is not as it should be, one line each."""
        ...


class Served(Protocol):
    """A running daemon."""

    @property
    def health(self) -> Condition:
        """Return how the daemon is."""
        ...

    @property
    def unknown(self) -> Mapping[str, UnknownNames]:
        """Return the unknown maps and dicts that clients asked for, by listener."""
        ...

    @property
    def config(self) -> Config:
        """Return the configuration in force."""
        ...

    @property
    def engine(self) -> Engine:
        """Return the engine in use."""
        ...

    @property
    def memory(self) -> Memory:
        """Return the memory of everything remembered."""
        ...

    @property
    def started(self) -> float:
        """Return when it was started, in seconds since the epoch."""
        ...

    @property
    def last_reload(self) -> float:
        """Return when the configuration was last read with success, in seconds since the epoch."""
        ...

    @property
    def reload_failed(self) -> bool:
        """Return whether the last reload was refused."""
        ...

    @property
    def listeners(self) -> Iterable[Listener]:
        """Return the open listeners of the lookup protocols."""
        ...

    @property
    def client_meters(self) -> Mapping[str, ClientMeter]:
        """Return the meters of clients by listener."""
        ...

    @property
    def meters(self) -> Iterable[LookupMeter]:
        """Return the meters of every listener and map or dict."""
        ...

    @property
    def map_meters(self) -> list[LookupMeter]:
        """Return the meters of maps."""
        ...

    @property
    def dict_meters(self) -> list[LookupMeter]:
        """Return the meters of dicts."""
        ...

    @property
    def database_meter(self) -> DatabaseMeter:
        """Return the meter of all databases."""
        ...

    def feeds(self) -> list[FeedState]:
        """Return how the changes of each server are followed."""
        ...

    def stats(self) -> Snapshot:
        """Return every counter at this moment."""
        ...

    async def reload(self) -> list[str]:
        """Read the configuration again; return the faults of one that was refused."""
        ...

    def reached(self, database: str) -> bool:
        """Return whether a database has answered since the daemon knows it."""
        ...

    async def flush(self, order: FlushOrder) -> FlushReport:
        """Forget what the order selects, on every host of a fleet. Raises UnknownName, NoFleet."""
        ...

    async def members(self) -> dict[str, MemberState]:
        """Return the hosts of the fleet. Raises NoFleet, ClusterError."""
        ...

    @property
    def webhook_token(self) -> str:
        """Return the token that a webhook must bring, or an empty text."""
        ...

    def auth_cache(self) -> tuple[bool, int] | None:
        """Return whether Dovecot's auth cache can be told to forget, and how often it was; None where there is none."""
        ...

    def cluster_state(self) -> ClusterState | None:
        """Return how this host hears the others, or None without a fleet."""
        ...

    def look(self, request: LookRequest) -> Held:
        """Return what memory holds of one entry. Raises UnknownName."""
        ...
