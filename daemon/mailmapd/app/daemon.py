"""The running daemon: listeners in front, engine behind, reload and shutdown in between.

start     every socket is bound before anything is served; then lookups first, HTTP second (its import takes longest)
SIGHUP    the configuration is read again; a wrong one is named and the old one stays
SIGTERM   no new clients; lookups in flight are answered; connections end; then the process
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING

from mailmapd.app.assembly import assemble, plan
from mailmapd.app.garbage import spare_what_stays
from mailmapd.app.logs import Logs
from mailmapd.app.service_manager import ServiceManager
from mailmapd.app.sockets import SocketSet, Wanted, remove_socket_file, wanted_sockets
from mailmapd.app.status import StatusSource, take_snapshot
from mailmapd.app.warm_start import WarmStart
from mailmapd.config.loader import load_config
from mailmapd.config.peers import Peers
from mailmapd.config.schema import Config
from mailmapd.control.gate import Gate
from mailmapd.control.server import ControlServer
from mailmapd.databases.interface import Database
from mailmapd.engine.dict_service import DictService
from mailmapd.engine.engine import Engine
from mailmapd.engine.flush import FlushRequest, flush, free
from mailmapd.engine.look import Held, LookRequest, look
from mailmapd.engine.map_service import MapService
from mailmapd.engine.meters import LookupMeter
from mailmapd.engine.snapshot import Snapshot
from mailmapd.engine.table import Table
from mailmapd.errors import ConfigError
from mailmapd.metrics.database_meter import DatabaseMeter
from mailmapd.protocols import DictCodec, SocketmapCodec, TcpTableCodec
from mailmapd.server.conversation import Conversation, MapConversation
from mailmapd.server.dict_conversation import DictConversation
from mailmapd.server.listener import Listener

if TYPE_CHECKING:
    from mailmapd.web.http_server import HttpServer

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
        self._sockets = sockets
        self._manager = manager
        self._assembled = assemble(plan(config), clock=clock, observer=self.database_meter)
        self._warm_start = WarmStart(lambda: self._assembled, clock)
        self._services: dict[str, MapService] = {}
        self._dict_services: dict[str, DictService] = {}
        self._listeners: dict[Wanted, Listener] = {}
        self._side_servers: dict[Wanted, HttpServer | ControlServer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reload_lock = asyncio.Lock()
        self._stop = asyncio.Event()
        self._config = config

    @property
    def engine(self) -> Engine:
        """The engine in use."""
        return self._assembled.engine

    @property
    def listeners(self) -> Iterable[Listener]:
        """The open listeners of the lookup protocols."""
        return self._listeners.values()

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._config

    @property
    def meters(self) -> Iterable[LookupMeter]:
        """The meters of every listener and map or dict."""
        return [*self.map_meters, *self.dict_meters]

    @property
    def map_meters(self) -> list[LookupMeter]:
        """The meters of maps."""
        return [meter for service in self._services.values() for meter in service.meters.values()]

    @property
    def dict_meters(self) -> list[LookupMeter]:
        """The meters of dicts."""
        return [meter for service in self._dict_services.values() for meter in service.meters.values()]

    def stats(self) -> Snapshot:
        """Return every counter at this moment."""
        return take_snapshot(self)

    async def flush(self, request: FlushRequest) -> dict[str, int]:
        """Forget what the request selects; return how many entries were dropped, by table. Raises UnknownName."""
        delimiters = "".join(one.recipient_delimiter for one in self._config.maps.values()).encode()
        try:
            return await flush(self.engine, request, delimiters)
        finally:
            for service in self._services.values():
                service.forget()
            await self._warm_start.forgotten()
            spare_what_stays()

    def look(self, request: LookRequest) -> Held:
        """Return what memory holds of one entry. Raises UnknownName."""
        return look(self.engine, request, self._clock())

    def problems(self) -> list[str]:
        """Return what keeps the daemon from answering everything, one line each."""
        found = [f"table {name}: {table.schema_error}" for name, table in self.engine.tables.items() if table.schema_error]
        for name, database in self.engine.databases.items():
            hosts = database.status()
            if not any(host.up for host in hosts):
                found.append(f"database {name}: no host can be reached ({'; '.join(host.last_error or host.host for host in hosts)})")
        if self.reload_failed:
            found.append("the configuration on disk is wrong; the daemon goes on with the one before")
        return found

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self.reload()))
        await self._open()
        spare_what_stays()
        self._manager.ready(self.status_line())
        log.info(
            "ready: %d maps on %s", len(self.engine.maps), ", ".join(str(wanted.entry.address) for wanted in wanted_sockets(self._config))
        )
        self._warm_start.begin()
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
                self._manager.status(self.status_line())
                self._status.tick()
                if self._logs is not None:
                    self._logs.write_repeats()

    async def _open(self) -> None:
        wanted = list(wanted_sockets(self._config))
        bound = self._sockets.open(self._config.file, wanted)
        for one in sorted(wanted, key=lambda one: one.name == "http"):
            await self._start(one, bound[one])

    async def _start(self, wanted: Wanted, bound: socket.socket) -> None:
        if wanted.name == "http":
            await self._start_http(wanted, bound)
            return
        if wanted.name == "lookup_http":
            await self._start_lookup_http(wanted, bound)
            return
        if wanted.name == "control":
            await self._start_control(wanted, bound)
            return
        listener = Listener(
            wanted.name, wanted.entry, bound, converse=self._conversations(wanted.name), limits=self._config.limits, clock=self._clock
        )
        await listener.start()
        self._listeners[wanted] = listener

    def _conversations(self, name: str) -> Callable[[], Conversation]:
        """Return what makes the conversation of each new connection of a listener."""
        kind, _, only_map = name.partition(".")
        if kind == "dict":
            dict_service = self._dict_service(name)
            return lambda: DictConversation(DictCodec(), dict_service)
        service = self._services.get(name)
        if service is None:
            service = self._services[name] = MapService(name, self._clock, only_map=only_map, slow=self._config.log.slow_lookup)
        service.serve(self.engine.maps)
        if kind == "tcp_table":
            return lambda: MapConversation(TcpTableCodec(), service)
        return lambda: MapConversation(SocketmapCodec(), service)

    def _dict_service(self, name: str) -> DictService:
        service = self._dict_services.get(name)
        if service is None:
            service = self._dict_services[name] = DictService(name, self._clock, slow=self._config.log.slow_lookup)
        service.serve(self.engine.dicts)
        return service

    async def _start_lookup_http(self, wanted: Wanted, bound: socket.socket) -> None:
        from mailmapd.web.http_server import HttpServer
        from mailmapd.web.lookup_api import lookup_app

        app = lookup_app(self._dict_service(wanted.name), Peers(wanted.entry.peers), lambda: self._config.limits.stall_timeout)
        server = HttpServer(app, bound)
        await server.start()
        self._side_servers[wanted] = server

    async def _start_http(self, wanted: Wanted, bound: socket.socket) -> None:
        await asyncio.to_thread(importlib.import_module, "mailmapd.web.http_server")  # a tenth of a second, in which lookups are answered
        from mailmapd.metrics.collector import Exposition
        from mailmapd.web.http_server import HttpServer
        from mailmapd.web.operations import operations_app

        exposition = Exposition(self)
        server = HttpServer(operations_app(exposition.render, exposition.content_type, self.problems, self._status.view), bound)
        await server.start()
        self._side_servers[wanted] = server

    async def _start_control(self, wanted: Wanted, bound: socket.socket) -> None:
        server = ControlServer(bound, Gate(bound.getsockname(), Peers(wanted.entry.peers)), self)
        await server.start()
        self._side_servers[wanted] = server

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.add(task := asyncio.get_running_loop().create_task(work))
        task.add_done_callback(self._tasks.discard)

    async def _retire(self, databases: Iterable[Database], tables: Iterable[Table]) -> None:
        """Close databases and free caches of a former configuration, when the lookups that still wait for them have had their time."""
        try:
            await asyncio.sleep(self._config.limits.drain_timeout)
        finally:  # also when the daemon stops meanwhile: the process would wait for ever for the threads of a SQLite database
            for database in databases:
                await database.close()
        for table in tables:
            await free(table.clear())

    async def reload(self) -> None:
        """Read the configuration again and serve it; a wrong one is logged and changes nothing. One reload follows the other."""
        async with self._reload_lock:
            await self._reload()

    async def _reload(self) -> None:
        self._manager.reloading()
        try:
            config = load_config(self._config.file)
            planned = plan(config)
            wanted = set(wanted_sockets(config))
            bound = self._sockets.open(config.file, [one for one in wanted if one not in self._listeners and one not in self._side_servers])
        except ConfigError as error:
            self.reload_failed = True
            for fault in error.faults:
                log.error("reload refused, the old configuration stays: %s", fault)  # noqa: TRY400 (the fault says it all)
            self._manager.ready(f"reload refused: {error.faults[0]}")
            return
        previous = self._assembled
        self._config = config
        if self._logs is not None:
            self._logs.apply(config.log)
        self._assembled = assemble(planned, clock=self._clock, observer=self.database_meter, previous=previous)
        await self._close_sockets([one for one in (*self._listeners, *self._side_servers) if one not in wanted])
        for service in self._services.values():
            service.slow = config.log.slow_lookup
            service.serve(self.engine.maps)
        for dict_service in self._dict_services.values():
            dict_service.slow = config.log.slow_lookup
            dict_service.serve(self.engine.dicts)
        for one, each in bound.items():
            await self._start(one, each)
        for listener in self._listeners.values():
            listener.limits = config.limits
        databases = [one for name, one in previous.engine.databases.items() if self.engine.databases.get(name) is not one]
        tables = [one for name, one in previous.engine.tables.items() if self.engine.tables.get(name) is not one]
        if databases or tables:
            self._spawn(self._retire(databases, tables))
        if any(previous.engine.tables.get(name) is not one for name, one in self.engine.tables.items()):
            spare_what_stays()
        self._warm_start.reloaded()
        self.reload_failed = False
        self.last_reload = time.time()
        log.info("configuration reloaded")
        self._manager.ready(self.status_line())

    async def _close_sockets(self, unwanted: list[Wanted]) -> None:
        for one in unwanted:
            listener = self._listeners.pop(one, None)
            if listener is not None:
                listener.stop_accepting(unlink=not self._sockets.inherited(one.entry.address))
                listener.drain()
            elif one in self._side_servers:
                await self._close_side_server(one, self._side_servers.pop(one))
        for name in set(self._services) - {one.name for one in self._listeners}:
            del self._services[name]
        for name in set(self._dict_services) - {one.name for one in (*self._listeners, *self._side_servers)}:
            del self._dict_services[name]

    async def _close_side_server(self, wanted: Wanted, server: HttpServer | ControlServer) -> None:
        await server.close()
        if not self._sockets.inherited(wanted.entry.address):
            remove_socket_file(wanted.entry.address)

    async def _shut_down(self) -> None:
        self._manager.stopping()
        for wanted, listener in self._listeners.items():
            listener.stop_accepting(unlink=not self._sockets.inherited(wanted.entry.address))
            listener.drain()
        deadline = self._clock() + self._config.limits.drain_timeout
        while any(listener.connections for listener in self._listeners.values()) and self._clock() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # a connection that ends has nobody else to tell
        for listener in self._listeners.values():
            if listener.connections:
                log.warning("listener %s: %d connections did not end in time", listener.name, len(listener.connections))
            listener.close()
        for one, server in self._side_servers.items():
            await self._close_side_server(one, server)
        await self._warm_start.finish()
        await self.engine.close()
        log.info("stopped")
