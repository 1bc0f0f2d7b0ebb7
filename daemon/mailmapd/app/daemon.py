"""The running daemon: listeners in front, engine behind, reload and shutdown in between.

start     every socket is bound before anything is served; then lookups first, HTTP second (its import takes longest)
SIGHUP    the configuration is read again; a wrong one is named and the old one stays
SIGTERM   no new clients; lookups in flight are answered; connections end; then the process
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from mailmapd.app.auth_cache import DovecotCache
from mailmapd.app.changes import Changes
from mailmapd.app.cluster import Cluster
from mailmapd.app.doors import Doors
from mailmapd.app.first_contact import FirstContact
from mailmapd.app.front import Front
from mailmapd.app.garbage import look_again, spare_what_stays
from mailmapd.app.health import Health
from mailmapd.app.logs import Logs
from mailmapd.app.service_manager import ServiceManager
from mailmapd.app.status import StatusSource, take_snapshot
from mailmapd.app.upkeep import Upkeep
from mailmapd.cache.memory import REPLIES, Memory
from mailmapd.config.loader import load_config
from mailmapd.config.schema import Config
from mailmapd.config.size import size_in_bytes
from mailmapd.databases.interface import Database
from mailmapd.engine.engine import Engine, free_slowly
from mailmapd.engine.flush import FlushRequest, flush
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.look import Held, LookRequest, look
from mailmapd.engine.meters import ClientMeter, LookupMeter
from mailmapd.engine.orders import FlushOrder, FlushReport
from mailmapd.engine.table import Table
from mailmapd.engine.unknown_names import UnknownNames
from mailmapd.errors import DEFECT, ConfigError
from mailmapd.metrics.database_meter import DatabaseMeter
from mailmapd.plan.assembly import assemble, plan
from mailmapd.server.listener import Listener
from mailmapd.sockets.opening import SocketSet, wanted_sockets
from mailmapd.state.warm_start import WarmStart
from mailmapd.stats.snapshot import ClusterState, FeedState, MemberState, Snapshot

log = logging.getLogger(__name__)

T = TypeVar("T")

STATUS_INTERVAL = 10.0  # seconds between status lines for the service manager, unless its watchdog wants them sooner


class Daemon:
    """Serves one configuration file. `run` returns when the daemon has been told to stop."""

    def __init__(
        self,
        config: Config,
        sockets: SocketSet,
        manager: ServiceManager,
        clock: Callable[[], float] = time.monotonic,
        *,
        logs: Logs | None = None,
    ) -> None:
        self.database_meter = DatabaseMeter()
        self.started = self.last_reload = time.time()
        self.reload_fault = ""
        self._clock = clock
        self._logs = logs
        self._status = StatusSource(self, None if logs is None else logs.recent)
        self._contact = FirstContact(self._show_status)
        self.health: Health = Health(self, self._contact)
        self.memory = Memory(size_in_bytes(config.cache.max_bytes))
        self.front = Front(
            self, Doors(sockets), self._status.view, clock, replies=self.memory.shares[REPLIES]
        )
        self._manager = manager
        self._assembled = assemble(
            plan(config), clock=clock, observer=self.database_meter, memory=self.memory
        )
        self.front.watch(self._assembled.engine)
        self._auth_cache = DovecotCache(lambda: self._assembled.engine, clock)
        self._assembled.engine.watchers.append(self._auth_cache.forget)
        self._cluster = Cluster(clock, self._flush_here)
        self._changes = Changes(clock, self._cluster)
        self._warm_start = WarmStart(lambda: self._assembled, clock, keep=self._keep)
        self._cluster.following = lambda: self._changes.following
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reload_lock = asyncio.Lock()
        self._stop = asyncio.Event()
        self._ending = asyncio.Event()
        self._config = config
        self._upkeep = Upkeep(lambda: self.engine, self._ending, clock, self.front.age)

    @property
    def engine(self) -> Engine:
        """Return the engine in use, with every lookup counted that has been answered until now."""
        self.front.settle()
        return self._assembled.engine

    @property
    def reload_failed(self) -> bool:
        """Return whether the last reload was refused."""
        return bool(self.reload_fault)

    @property
    def listeners(self) -> Iterable[Listener]:
        """Return the open listeners of the lookup protocols."""
        return self.front.listeners

    @property
    def config(self) -> Config:
        """Return the configuration in force."""
        return self._config

    @property
    def meters(self) -> Iterable[LookupMeter]:
        """Return the meters of every listener and map or dict."""
        return [*self.map_meters, *self.dict_meters]

    @property
    def client_meters(self) -> Mapping[str, ClientMeter]:
        """Return the meters of clients by listener."""
        return self.front.client_meters

    @property
    def unknown(self) -> Mapping[str, UnknownNames]:
        """Return the unknown maps and dicts that clients asked for, by listener."""
        return self.front.unknown

    @property
    def map_meters(self) -> list[LookupMeter]:
        """Return the meters of maps."""
        return self.front.map_meters

    @property
    def dict_meters(self) -> list[LookupMeter]:
        """Return the meters of dicts."""
        return self.front.dict_meters

    def changes_problems(self) -> list[str]:
        """Return why changes that should be followed are not, one line each."""
        return self._changes.problems()

    def feeds(self) -> list[FeedState]:
        """Return how the changes of each server are followed."""
        return self._changes.states()

    def cluster_problems(self) -> list[str]:
        """Return what keeps this host from hearing the others of its fleet, one line each."""
        return self._cluster.problems()

    def auth_cache_problems(self) -> list[str]:
        """Return why Dovecot's auth cache does not forget, if it does not."""
        return self._auth_cache.problems()

    def auth_cache(self) -> tuple[bool, int] | None:
        """Return whether Dovecot's auth cache can be told to forget, and how often it was; None where there is none."""
        return self._auth_cache.state()

    @property
    def webhook_token(self) -> str:
        """Return the token that a webhook must bring, or an empty text."""
        return self._assembled.plan.webhook_token

    def cluster_state(self) -> ClusterState | None:
        """Return how this host hears the others, or None without a fleet."""
        return self._cluster.state(self._assembled.plan.cluster)

    async def members(self) -> dict[str, MemberState]:
        """Return the hosts of the fleet. Raises NoFleet, ClusterError."""
        return await self._cluster.members()

    def stats(self) -> Snapshot:
        """Return every counter at this moment."""
        return take_snapshot(self)

    async def flush(self, order: FlushOrder) -> FlushReport:
        """Forget what the order selects, on every host of a fleet. Raises UnknownName, NoFleet."""
        return await self._cluster.flush(order)

    async def _flush_here(
        self, request: FlushRequest, applied: Callable[[Invalidation], None]
    ) -> dict[str, int]:
        delimiters = "".join(
            section.recipient_delimiter for section in self._config.maps.values()
        ).encode()
        forgotten: list[Invalidation] = []

        def heard(invalidation: Invalidation) -> None:
            forgotten.append(invalidation)
            applied(invalidation)

        try:
            return await flush(self.engine, request, delimiters, heard)
        finally:
            await self._warm_start.forgotten(forgotten)
            spare_what_stays()
            self._spawn(self._upkeep.give_back())

    def look(self, request: LookRequest) -> Held:
        """Return what memory holds of one entry. Raises UnknownName."""
        held = look(self.engine, request, self._clock())
        if held.age not in {"fresh", "refresh"}:
            return held
        reason = self._changes.why_not(self.engine.tables[request.table], request.sql_key)
        return replace(held, followed=not reason, reason=reason)

    def reached(self, database: str) -> bool:
        """Return whether a database has answered since the daemon knows it."""
        return self._contact.reached(self.engine.databases[database])

    @property
    def stopping(self) -> bool:
        """Return whether the daemon has been told to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Have `run` come to its end."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self._reload_once()))
        async with self._reload_lock:
            bound = self.front.bind(self._config, at_start=True)
            self._contact.begin(self.engine.databases.values())
            await self.front.open(bound, self._config, self.engine)
        spare_what_stays()
        look_again()
        self._manager.ready(self.status_line())
        log.info(
            "ready: %d maps on %s%s",
            len(self.engine.maps),
            ", ".join(
                str(wanted.entry.address)
                for wanted in wanted_sockets(self._config)
                if wanted in bound
            ),
            "".join(f"; {hindrance}" for hindrance in self.health.hindrances()),
        )
        self._warm_start.begin()
        self._spawn(self._go_on())
        self._spawn(self._auth_cache.begin(self._config))
        self._spawn(self._upkeep.sweep())
        await self._serve()
        await self._shut_down()

    async def _keep(self) -> dict[str, Any]:
        """Return what a later process goes on from: places in logs by database, and one in the fleet's stream."""
        kept = {f"database {name}": value for name, value in (await self._changes.keep()).items()}
        standing = await self._cluster.keep()
        return kept if standing is None else kept | {"cluster": standing}

    async def _go_on(self) -> None:
        """Hear of changes from where the state file ends; what it says is believed when all of it is loaded."""
        kept = await self._warm_start.kept()
        if not self._stop.is_set():
            await self._cluster.begin(self._assembled, kept.get("cluster"))
        await self._warm_start.loaded()
        self._cluster.believe()
        if not self._stop.is_set():
            databases = {
                name.removeprefix("database "): value
                for name, value in kept.items()
                if name.startswith("database ")
            }
            await self._changes.begin(self._assembled, databases)

    async def _serve(self) -> None:
        interval = min(STATUS_INTERVAL, self._manager.watchdog / 2 or STATUS_INTERVAL)
        while not self._stop.is_set():
            try:
                await asyncio.wait_for(self._stop.wait(), interval)
            except TimeoutError:
                try:
                    await self._tick()
                except Exception:
                    log.exception("the status line could not be written: a defect of mailmapd")

    def status_line(self) -> str:
        """Return how the daemon is, in one line."""
        return self.health.line()

    def _show_status(self) -> None:
        self._manager.status(self.status_line())

    async def _tick(self) -> None:
        if not self._reload_lock.locked():
            async with self._reload_lock:
                await self.front.open_late(self._config, self.engine)
        self._show_status()
        self._status.tick()
        if self._logs is not None:
            self._logs.write_repeats()

    def _spawn(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _retire(
        self, leaving: Iterable[Listener], databases: Iterable[Database], tables: Iterable[Table]
    ) -> None:
        """End what is left of a former configuration when its lookups have had their time, or the daemon ends."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), self._config.limits.drain_timeout)
        self.front.close_listeners(leaving)
        for database in databases:
            await database.close()
        if not self._ending.is_set():
            for table in tables:
                free_slowly(table.apply(Invalidation())[1])
            await self._upkeep.after_reload()

    async def reload(self) -> list[str]:
        """Read the configuration again and serve it; return the faults of a wrong one, which changes nothing.

        One reload follows the other, and who asked for it may leave before its end.
        """
        return await asyncio.shield(self._spawn(self._reload_once()))

    async def _reload_once(self) -> list[str]:
        async with self._reload_lock:
            if self._stop.is_set():
                return ["the daemon is about to end"]
            try:
                return await self._reload()
            except Exception:
                self.reload_fault = DEFECT
                log.exception("a reload ended in a defect of mailmapd")
                self._manager.ready(self.status_line())
                return [DEFECT]

    async def _reload(self) -> list[str]:
        self._manager.reloading()
        try:
            config = load_config(self._config.file)
            planned = plan(config)
            bound = self.front.bind(config)
        except ConfigError as error:
            self.reload_fault = str(error.faults[0])
            for fault in error.faults:
                # The fault says it all
                log.error("reload refused, the old configuration stays: %s", fault)  # noqa: TRY400
            self._manager.ready(f"reload refused: {self.reload_fault}")
            return [str(fault) for fault in error.faults]
        previous = self._assembled
        self.front.settle()
        self._config = config
        if self._logs is not None:
            self._logs.apply(config.log)
        steps = self.memory.come_down(size_in_bytes(config.cache.max_bytes))
        self._spawn(self._upkeep.make_room(steps))
        self._assembled = assemble(
            planned,
            clock=self._clock,
            observer=self.database_meter,
            previous=previous,
            memory=self.memory,
        )
        self.front.watch(self._assembled.engine)
        self._assembled.engine.watchers.append(self._auth_cache.forget)
        self._contact.begin(self.engine.databases.values())
        leaving = await self.front.change(bound, config, self.engine)
        self._spawn(self._changes.begin(self._assembled))
        self._spawn(self._cluster.begin(self._assembled))
        self._spawn(self._auth_cache.begin(self._config))
        databases = [
            database
            for name, database in previous.engine.databases.items()
            if self.engine.databases.get(name) is not database
        ]
        tables = [
            table
            for name, table in previous.engine.tables.items()
            if self.engine.tables.get(name) is not table
        ]
        self._spawn(self._retire(leaving, databases, tables))
        if any(
            previous.engine.tables.get(name) is not table
            for name, table in self.engine.tables.items()
        ):
            spare_what_stays()
        self._warm_start.reloaded()
        self.reload_fault = ""
        self.last_reload = time.time()
        log.info("configuration reloaded")
        self._manager.ready(self.status_line())
        return []

    async def _shut_down(self) -> None:
        """End. A reload that has begun comes to its end first, and there is no other."""
        self._manager.stopping()
        async with self._reload_lock:
            await _whatever_happens(self.front.close(self._config.limits.drain_timeout))
        await _whatever_happens(self._auth_cache.close())
        self._ending.set()
        await _whatever_happens(self._contact.end())
        # While changes are followed: the file says from where a later process goes on
        await _whatever_happens(self._warm_start.finish())
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await _whatever_happens(self._changes.close())
        await _whatever_happens(self._cluster.close())
        await _whatever_happens(self.engine.close())
        log.info("stopped")


async def _whatever_happens(step: Coroutine[None, None, None]) -> None:
    """Take one step of the end; a defect in it does not keep the next ones from being taken."""
    try:
        await step
    except Exception:
        log.exception("a step of the end failed: a defect of mailmapd")
