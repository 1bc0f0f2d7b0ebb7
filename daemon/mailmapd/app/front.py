"""The front: everything that clients connect to, and the services that answer them.

A listener belongs to one configured socket; a service belongs to the listeners of one name, and
outlives a reload with its counters. What a reload no longer wants is left to end by itself, while
its address may already be served by something else.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from mailmapd.app.doors import Doors
from mailmapd.app.served import Served
from mailmapd.cache.memory import Share
from mailmapd.config.schema import Config, LimitsSection
from mailmapd.control.server import ControlServer
from mailmapd.engine.dicts.service import DictService
from mailmapd.engine.engine import Engine
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.maps.service import MapService
from mailmapd.engine.meters import ClientMeter, LookupMeter
from mailmapd.engine.unknown_names import UnknownNames
from mailmapd.protocols import DictCodec, SocketmapCodec, TcpTableCodec
from mailmapd.server.conversation import Conversation, MapConversation
from mailmapd.server.dict_conversation import DictConversation
from mailmapd.server.listener import Listener
from mailmapd.server.reply_cache import ReplyCaches
from mailmapd.sockets.gate import Gate
from mailmapd.sockets.opening import Wanted, lets_others_in, wanted_sockets
from mailmapd.sockets.peers import Peers

if TYPE_CHECKING:
    from mailmapd.web.http_server import HttpServer
    from mailmapd.web.status_view import StatusView

log = logging.getLogger(__name__)


class Front:
    """The open sockets of `daemon`. `view` gives what the status page shows."""

    def __init__(
        self,
        daemon: Served,
        doors: Doors,
        view: Callable[[], Awaitable[StatusView]],
        clock: Callable[[], float],
        *,
        replies: Share,
    ) -> None:
        self.services: dict[str, MapService] = {}
        self.dict_services: dict[str, DictService] = {}
        self.client_meters: dict[str, ClientMeter] = {}
        self.unknown: dict[str, UnknownNames] = {}
        self._former: dict[str, dict[str, LookupMeter]] = {}
        self._daemon = daemon
        self.doors = doors
        self._view = view
        self._clock = clock
        self._listeners: dict[Wanted, Listener] = {}
        self._side_servers: dict[Wanted, HttpServer | ControlServer] = {}
        self._leaving: set[Listener] = set()
        self._retired: list[MapService | DictService] = []  # of listeners on their way out
        self._replies = ReplyCaches(replies)

    @property
    def listeners(self) -> Iterable[Listener]:
        """Return the open listeners of the lookup protocols."""
        return self._listeners.values()

    def settle(self) -> None:
        """Count the lookups that have been added up, those of listeners on their way out included."""
        for service in [*self.services.values(), *self.dict_services.values(), *self._retired]:
            service.settle()

    @property
    def map_meters(self) -> list[LookupMeter]:
        """Return the meters of maps, those of listeners that are gone included: what was counted never gets less."""
        self.settle()
        former = [
            meter
            for name, meters in self._former.items()
            if not _asks_dicts(name)
            for meter in meters.values()
        ]
        return [
            *former,
            *[meter for service in self.services.values() for meter in service.meters.values()],
        ]

    @property
    def dict_meters(self) -> list[LookupMeter]:
        """Return the same of dicts."""
        self.settle()
        former = [
            meter
            for name, meters in self._former.items()
            if _asks_dicts(name)
            for meter in meters.values()
        ]
        return [
            *former,
            *[
                meter
                for service in self.dict_services.values()
                for meter in service.meters.values()
            ],
        ]

    def bind(self, config: Config, *, at_start: bool = False) -> dict[Wanted, socket.socket]:
        """Return the sockets that a configuration wants and that are not served yet.

        Raises ConfigError, and nothing has changed then.
        """
        return self.doors.open(config, self._served(), at_start=at_start)

    def unknown_names(self) -> Iterator[str]:
        """Yield a line for each map or dict that clients ask for and that does not exist."""
        for name, service in self.services.items():
            yield from self.unknown[name].recent(service.names)
        for name, dict_service in self.dict_services.items():
            yield from self.unknown[name].recent(dict_service.names)

    async def open_late(self, config: Config, engine: Engine) -> None:
        """Try again to open the listeners that could not be opened."""
        await self.open(self.doors.open_late(config), config, engine)

    async def open(
        self, bound: Mapping[Wanted, socket.socket], config: Config, engine: Engine
    ) -> None:
        """Serve bound sockets: lookups first, HTTP last, because its import takes longest."""
        for place in sorted(bound, key=lambda place: place.name in ("http", "webhook")):
            await self._start(place, bound[place], config, engine)

    async def change(
        self, bound: Mapping[Wanted, socket.socket], config: Config, engine: Engine
    ) -> list[Listener]:
        """Serve another configuration with another engine.

        Return the listeners that have no place in it and are on their way out.

        From the call on, before anything is waited for, nobody is answered from the engine before.
        """
        wanted = set(wanted_sockets(config))
        unwanted = [place for place in self._served() if place not in wanted]
        leaving = self._leave([place for place in unwanted if place in self._listeners])
        side_servers = [
            self._side_servers.pop(place) for place in unwanted if place in self._side_servers
        ]
        names = {place.name for place in wanted}
        self._former |= {
            name: service.meters for name, service in self.services.items() if name not in names
        }
        self._former |= {
            name: service.meters
            for name, service in self.dict_services.items()
            if name not in names
        }
        self._retired += [
            service
            for services in (self.services, self.dict_services)
            for name, service in services.items()
            if name not in names
        ]
        self.services = {name: service for name, service in self.services.items() if name in names}
        self.dict_services = {
            name: service for name, service in self.dict_services.items() if name in names
        }
        for service in self.services.values():
            service.slow = config.log.slow_lookup
            service.serve(engine.maps)
        for dict_service in self.dict_services.values():
            dict_service.slow = config.log.slow_lookup
            dict_service.serve(engine.dicts)
        self._replies.forget_all()
        for listener in self._listeners.values():
            listener.limits = config.limits
        self.doors.release(
            {place.entry.address for place in unwanted} - {place.entry.address for place in wanted}
        )
        await asyncio.gather(*[server.close() for server in side_servers])
        await self.open(bound, config, engine)
        return leaving

    def close_listeners(self, leaving: Iterable[Listener]) -> None:
        """End the connections that are left of listeners on their way out."""
        for listener in leaving:
            listener.close()
            self._leaving.discard(listener)
        if not self._leaving:
            self.settle()
            self._retired.clear()

    def watch(self, engine: Engine) -> None:
        """Forget what the engine forgets, and what its dicts have to be asked for again."""
        engine.watchers.append(self.forget)
        for dict_ in engine.dicts.values():
            if dict_.mismatches is not None:
                dict_.mismatches.recall = self.forget

    def forget(self, invalidation: Invalidation) -> None:
        """Drop the remembered replies that were made of what is touched."""
        self._replies.forget(invalidation)

    def age(self) -> None:
        """Have remembered replies made anew from their parts, so that those count as used."""
        self._replies.age()

    async def close(self, drain_timeout: float) -> None:
        """Take no more clients, answer what was asked, and end."""
        self.doors.release(listener.entry.address for listener in self._listeners)
        self._leave(list(self._listeners))
        deadline = self._clock() + drain_timeout
        while any(listener.connections for listener in self._leaving) and self._clock() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # a connection that ends has nobody else to tell
        for listener in self._leaving:
            if listener.connections:
                log.warning(
                    "listener %s: %d connections did not end in time",
                    listener.name,
                    len(listener.connections),
                )
        self.close_listeners(list(self._leaving))
        self.doors.release(server.entry.address for server in self._side_servers)
        await asyncio.gather(*[server.close() for server in self._side_servers.values()])

    def _limits(self) -> LimitsSection:
        return self._daemon.config.limits

    def _served(self) -> list[Wanted]:
        return [*self._listeners, *self._side_servers]

    def _leave(self, unwanted: Iterable[Wanted]) -> list[Listener]:
        leaving = [self._listeners.pop(place) for place in unwanted]
        for listener in leaving:
            listener.stop_accepting()
            listener.drain()
        self._leaving.update(leaving)
        return leaving

    async def _start(
        self, wanted: Wanted, bound: socket.socket, config: Config, engine: Engine
    ) -> None:
        if wanted.name == "http":
            await self._start_http(wanted, bound)
            return
        if wanted.name == "lookup_http":
            await self._start_lookup_http(wanted, bound, config, engine)
            return
        if wanted.name == "webhook":
            await self._start_webhook(wanted, bound)
            return
        if wanted.name == "control":
            server = ControlServer(
                bound, Gate(bound.getsockname(), Peers(wanted.entry.peers)), self._daemon
            )
            await server.start()
            self._side_servers[wanted] = server
            return
        converse = self._conversations(wanted.name, config, engine)
        meter = self.client_meters.setdefault(wanted.name, ClientMeter())
        listener = Listener(
            wanted.name,
            wanted.entry,
            bound,
            converse=converse,
            limits=config.limits,
            clock=self._clock,
            meter=meter,
        )
        await listener.start()
        self._listeners[wanted] = listener

    def _conversations(
        self, name: str, config: Config, engine: Engine
    ) -> Callable[[], Conversation]:
        """Return what makes the conversation of each new connection of a listener."""
        kind, _, only_map = name.partition(".")
        if kind == "dict":
            dict_service = self._dict_service(name, config, engine)
            replies_of = partial(self._replies.of, name)
            return lambda: DictConversation(DictCodec(), dict_service, replies_of)
        service = self.services.get(name)
        if service is None:
            service = self.services[name] = MapService(
                name, self._clock, only_map=only_map, slow=config.log.slow_lookup
            )
            service.meters.update(self._former.pop(name, {}))
            service.unknown_names = self.unknown.setdefault(name, service.unknown_names)
            service.serve(engine.maps)
        codec = TcpTableCodec if kind == "tcp_table" else SocketmapCodec
        replies = self._replies.of(name)
        return lambda: MapConversation(codec(), service, replies)

    def _dict_service(self, name: str, config: Config, engine: Engine) -> DictService:
        service = self.dict_services.get(name)
        if service is None:
            service = self.dict_services[name] = DictService(
                name, self._clock, slow=config.log.slow_lookup
            )
            service.meters.update(self._former.pop(name, {}))
            service.unknown_names = self.unknown.setdefault(name, service.unknown_names)
            service.serve(engine.dicts)
        return service

    async def _start_lookup_http(
        self, wanted: Wanted, bound: socket.socket, config: Config, engine: Engine
    ) -> None:
        await _import_http()
        from mailmapd.web.http_server import HttpServer
        from mailmapd.web.lookup_api import lookup_app

        service = self._dict_service(wanted.name, config, engine)
        app = lookup_app(service, lambda: self._limits().stall_timeout)
        peers = Peers(wanted.entry.peers)
        server = HttpServer(app, bound, wanted.name, self._limits, peers=peers)
        await server.start()
        self._side_servers[wanted] = server

    async def _start_webhook(self, wanted: Wanted, bound: socket.socket) -> None:
        await _import_http()
        from mailmapd.web.http_server import HttpServer
        from mailmapd.web.webhook import BODY_LIMIT, webhook_app

        app = webhook_app(self._daemon.flush, lambda: self._daemon.webhook_token)
        server = HttpServer(
            app,
            bound,
            wanted.name,
            self._limits,
            peers=Peers(wanted.entry.peers),
            strangers=lets_others_in(wanted.entry),
            longest_body=BODY_LIMIT,
        )
        await server.start()
        self._side_servers[wanted] = server

    async def _start_http(self, wanted: Wanted, bound: socket.socket) -> None:
        await _import_http()
        from mailmapd.metrics.exposition import Exposition
        from mailmapd.web.http_server import HttpServer
        from mailmapd.web.operations import operations_app

        exposition = Exposition(self._daemon)
        app = operations_app(
            exposition.pieces, exposition.content_type, self._daemon.health, self._view
        )
        server = HttpServer(
            app,
            bound,
            wanted.name,
            self._limits,
            peers=Peers(wanted.entry.peers),
            strangers=True,
        )
        await server.start()
        self._side_servers[wanted] = server


def _asks_dicts(listener: str) -> bool:
    return listener in ("dict", "lookup_http")


async def _import_http() -> None:
    """Import what serves HTTP in a thread: it takes a tenth of a second, in which lookups are answered."""
    await asyncio.to_thread(importlib.import_module, "mailmapd.web.http_server")
