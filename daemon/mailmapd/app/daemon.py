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

from mailmapd.app.changes import Changes
from mailmapd.app.front import Front
from mailmapd.app.garbage import spare_what_stays
from mailmapd.app.logs import Logs
from mailmapd.app.service_manager import ServiceManager
from mailmapd.app.status import StatusSource, take_snapshot
from mailmapd.config.loader import load_config
from mailmapd.config.schema import Config
from mailmapd.databases.interface import Database
from mailmapd.engine.engine import Engine, free_slowly
from mailmapd.engine.flush import FlushRequest, flush
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.look import Held, LookRequest, look
from mailmapd.engine.meters import ClientMeter, LookupMeter
from mailmapd.engine.table import Table
from mailmapd.errors import ConfigError
from mailmapd.metrics.database_meter import DatabaseMeter
from mailmapd.model.legible import legible
from mailmapd.plan.assembly import assemble, plan
from mailmapd.server.listener import Listener
from mailmapd.sockets.opening import SocketSet, wanted_sockets
from mailmapd.state.warm_start import WarmStart
from mailmapd.stats.snapshot import FeedState, Snapshot

log = logging.getLogger(__name__)

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
        self.reload_failed = False
        self._clock = clock
        self._logs = logs
        self._status = StatusSource(self, None if logs is None else logs.recent)
        self._front = Front(self, sockets, self._status.view, clock)
        self._manager = manager
        self._assembled = assemble(plan(config), clock=clock, observer=self.database_meter)
        self._assembled.engine.watchers.append(self._front.forget)
        self._warm_start = WarmStart(lambda: self._assembled, clock)
        self._changes = Changes(clock)
        self._tasks: set[asyncio.Task[None]] = set()
        self._reload_lock = asyncio.Lock()
        self._stop = asyncio.Event()
        self._ending = asyncio.Event()
        self._config = config

    @property
    def engine(self) -> Engine:
        """The engine in use, with every lookup counted that has been answered until now."""
        self._front.settle()
        return self._assembled.engine

    @property
    def listeners(self) -> Iterable[Listener]:
        """The open listeners of the lookup protocols."""
        return self._front.listeners

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._config

    @property
    def meters(self) -> Iterable[LookupMeter]:
        """The meters of every listener and map or dict."""
        return [*self.map_meters, *self.dict_meters]

    @property
    def client_meters(self) -> Mapping[str, ClientMeter]:
        """The meters of clients by listener."""
        return self._front.client_meters

    @property
    def map_meters(self) -> list[LookupMeter]:
        """The meters of maps."""
        return self._front.map_meters

    @property
    def dict_meters(self) -> list[LookupMeter]:
        """The meters of dicts."""
        return self._front.dict_meters

    def feeds(self) -> list[FeedState]:
        """Return how the changes of each server are followed."""
        return self._changes.states()

    def stats(self) -> Snapshot:
        """Return every counter at this moment."""
        return take_snapshot(self)

    async def flush(self, request: FlushRequest) -> dict[str, int]:
        """Forget what the request selects; return how many entries were dropped, by table. Raises UnknownName."""
        delimiters = "".join(one.recipient_delimiter for one in self._config.maps.values()).encode()
        forgotten: list[Invalidation] = []
        try:
            return await flush(self.engine, request, delimiters, forgotten.append)
        finally:
            await self._warm_start.forgotten(forgotten)
            spare_what_stays()

    def look(self, request: LookRequest) -> Held:
        """Return what memory holds of one entry. Raises UnknownName."""
        return look(self.engine, request, self._clock())

    def problems(self) -> list[str]:
        """Return what keeps the daemon from answering everything, one line each."""
        found = [
            f"table {name}: {table.schema_error}"
            for name, table in self.engine.tables.items()
            if table.schema_error
        ]
        for name, database in self.engine.databases.items():
            hosts = database.status()
            if not any(host.up for host in hosts):
                found.append(
                    f"database {name}: no host can be reached "
                    f"({'; '.join(host.last_error or host.host for host in hosts)})"
                )
        found += self._changes.problems()
        if self.reload_failed:
            found.append(
                "the configuration on disk is wrong; the daemon goes on with the one before"
            )
        return [legible(line) for line in found]

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
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self.reload()))
        async with self._reload_lock:
            await self._front.open(self._front.bind(self._config), self._config, self.engine)
        spare_what_stays()
        self._manager.ready(self.status_line())
        log.info(
            "ready: %d maps on %s",
            len(self.engine.maps),
            ", ".join(str(wanted.entry.address) for wanted in wanted_sockets(self._config)),
        )
        self._warm_start.begin()
        self._spawn(self._changes.begin(self._assembled))
        await self._serve()
        await self._shut_down()

    def status_line(self) -> str:
        """Return how the daemon is, in one line."""
        tables = self.engine.tables.values()
        hits = sum(table.hits + table.negative_hits for table in tables)
        asked = hits + sum(table.misses + table.coalesced for table in tables)
        ratio = f"{hits / asked:.1%} of {asked} from memory" if asked else "nothing asked yet"
        problems = self.problems()
        return f"{ratio}; {problems[0]}" if problems else f"{ratio}; all databases up"

    async def _serve(self) -> None:
        interval = min(STATUS_INTERVAL, self._manager.watchdog / 2 or STATUS_INTERVAL)
        while not self._stop.is_set():
            try:
                await asyncio.wait_for(self._stop.wait(), interval)
            except TimeoutError:
                try:
                    self._tick()
                except Exception:
                    log.exception("the status line could not be written: a defect of mailmapd")

    def _tick(self) -> None:
        self._manager.status(self.status_line())
        self._status.tick()
        if self._logs is not None:
            self._logs.write_repeats()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.add(task := asyncio.get_running_loop().create_task(work))
        task.add_done_callback(self._tasks.discard)

    async def _retire(
        self, leaving: Iterable[Listener], databases: Iterable[Database], tables: Iterable[Table]
    ) -> None:
        """End what is left of a former configuration when its lookups have had their time, or the daemon ends."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), self._config.limits.drain_timeout)
        self._front.close_listeners(leaving)
        for database in databases:
            await database.close()
        if not self._ending.is_set():
            for table in tables:
                free_slowly(table.apply(Invalidation())[1])

    async def reload(self) -> None:
        """Read the configuration again and serve it; a wrong one is logged and changes nothing.

        One reload follows the other.
        """
        async with self._reload_lock:
            if not self._stop.is_set():
                try:
                    await self._reload()
                except Exception:
                    self.reload_failed = True
                    log.exception("a reload ended in a defect of mailmapd")
                    self._manager.ready(self.status_line())

    async def _reload(self) -> None:
        self._manager.reloading()
        try:
            config = load_config(self._config.file)
            planned = plan(config)
            bound = self._front.bind(config)
        except ConfigError as error:
            self.reload_failed = True
            for fault in error.faults:
                # The fault says it all
                log.error("reload refused, the old configuration stays: %s", fault)  # noqa: TRY400
            self._manager.ready(f"reload refused: {error.faults[0]}")
            return
        previous = self._assembled
        self._front.settle()
        self._config = config
        if self._logs is not None:
            self._logs.apply(config.log)
        self._assembled = assemble(
            planned, clock=self._clock, observer=self.database_meter, previous=previous
        )
        self._assembled.engine.watchers.append(self._front.forget)
        leaving = await self._front.change(bound, config, self.engine)
        self._spawn(self._changes.begin(self._assembled))
        databases = [
            one
            for name, one in previous.engine.databases.items()
            if self.engine.databases.get(name) is not one
        ]
        tables = [
            one
            for name, one in previous.engine.tables.items()
            if self.engine.tables.get(name) is not one
        ]
        self._spawn(self._retire(leaving, databases, tables))
        if any(
            previous.engine.tables.get(name) is not one for name, one in self.engine.tables.items()
        ):
            spare_what_stays()
        self._warm_start.reloaded()
        self.reload_failed = False
        self.last_reload = time.time()
        log.info("configuration reloaded")
        self._manager.ready(self.status_line())

    async def _shut_down(self) -> None:
        """End. A reload that has begun comes to its end first, and there is no other."""
        self._manager.stopping()
        async with self._reload_lock:
            await _whatever_happens(self._front.close(self._config.limits.drain_timeout))
        await _whatever_happens(self._changes.close())
        self._ending.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await _whatever_happens(self._warm_start.finish())
        await _whatever_happens(self.engine.close())
        log.info("stopped")


async def _whatever_happens(step: Coroutine[None, None, None]) -> None:
    """Take one step of the end; a defect in it does not keep the next ones from being taken."""
    try:
        await step
    except Exception:
        log.exception("a step of the end failed: a defect of mailmapd")
