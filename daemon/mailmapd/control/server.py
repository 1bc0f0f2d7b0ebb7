"""The control server: reads requests, lets the daemon do what they ask, and never stands in the way of lookups."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from mailmapd.config.address import KEEP_FILE
from mailmapd.control.protocol import (
    LINE_LIMIT,
    Request,
    RequestError,
    decode_request,
    encode_error,
    encode_reply,
)
from mailmapd.engine.flush import UnknownName
from mailmapd.engine.look import Held, LookRequest
from mailmapd.engine.orders import FlushOrder, FlushReport, NoFleet
from mailmapd.errors import ClusterError
from mailmapd.sockets.clients import Clients
from mailmapd.sockets.gate import Gate
from mailmapd.tasks import end_tasks

log = logging.getLogger(__name__)

MAX_CLIENTS = 64
# Connections, with those that are told so as soon as they ask; even more are closed without a word
_MOST = 2 * MAX_CLIENTS
_MOST_REFUSED = 16  # connections of those who may not ask, until they are told so; more are closed without a word
_LAST_WORDS = 1.0  # seconds in which one of them may ask, to be told
IDLE_TIMEOUT = 300.0  # seconds that a client may ask nothing, or leave a reply unread


class Controlled(Protocol):
    """The daemon as the control server sees it."""

    async def flush(self, order: FlushOrder) -> FlushReport:
        """Forget, on every host of a fleet. Raises UnknownName, NoFleet."""
        ...

    async def members(self) -> Mapping[str, Any]:
        """Return the hosts of the fleet. Raises NoFleet, ClusterError."""
        ...

    def look(self, request: LookRequest) -> Held:
        """Return what memory holds of one entry. Raises UnknownName."""
        ...

    async def reload(self) -> list[str]:
        """Read the configuration again; return the faults of one that was refused."""
        ...

    def stats(self) -> Mapping[str, object]:
        """Return all counters."""
        ...


@dataclass(eq=False)
class _Client:
    """One connection, and since when we wait for the client: for its next request, or to take a reply."""

    transport: asyncio.WriteTransport
    serving: asyncio.Task[None] | None
    waiting_since: float

    def abort(self) -> None:
        """End the connection at once."""
        self.transport.abort()


class ControlServer:
    """Serves one bound UNIX socket. `start` may be called once, `close` any number of times."""

    def __init__(
        self,
        bound: socket.socket,
        gate: Gate,
        controlled: Controlled,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bound = bound
        self._gate = gate
        self._controlled = controlled
        self._server: asyncio.Server | None = None
        self._clock = clock
        self._refused: dict[asyncio.WriteTransport, asyncio.Task[None] | None] = {}
        self.clients: Clients[_Client] = Clients(
            "control",
            log,
            most=lambda: _MOST,
            overdue=lambda client, now: (
                "is silent" if now - client.waiting_since > IDLE_TIMEOUT else ""
            ),
            clock=clock,
            level=logging.INFO,
            beyond="more are refused",
        )

    async def start(self) -> None:
        """Accept clients from now on."""
        self._server = await asyncio.start_unix_server(
            self._serve, sock=self._bound, limit=LINE_LIMIT, **KEEP_FILE
        )
        self.clients.start()

    async def close(self) -> None:
        """Accept nobody else and end every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.clients.stop()
        serving = [client.serving for client in self.clients.all] + [*self._refused.values()]
        await end_tasks([task for task in serving if task is not None])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        refusal = self._gate.refusal(writer.get_extra_info("socket"))
        if refusal:
            await self._turn_away(refusal, reader, writer)
            return
        client = _Client(writer.transport, asyncio.current_task(), self._clock())
        if not self.clients.have_room:
            self.clients.note_full()
            client.abort()
            return
        self.clients.add(client)
        try:
            with suppress(OSError):
                while line := await self._next_line(reader):
                    client.waiting_since = self._clock()
                    writer.write(await self._reply(line))
                    await writer.drain()
                    client.waiting_since = self._clock()
        except RequestError as error:  # the connection cannot go on after it
            writer.write(encode_error(error))
        finally:
            self.clients.remove(client)
            writer.close()

    async def _turn_away(
        self, refusal: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Say why nobody is served, as soon as he asks: he takes none of the places of those who are."""
        if len(self._refused) >= _MOST_REFUSED:
            writer.transport.abort()
            return
        self._refused[writer.transport] = asyncio.current_task()
        try:
            async with asyncio.timeout(_LAST_WORDS):
                asks = await reader.readline()
            if asks:
                log.warning("control: %s", refusal)
                writer.write(encode_error(RequestError("no_permission", refusal)))
        except (ValueError, OSError):  # a TimeoutError is one of these
            log.warning("control: %s", refusal)
        finally:
            del self._refused[writer.transport]
            writer.close()

    async def _next_line(self, reader: asyncio.StreamReader) -> bytes:
        """Return the next request, or nothing at the end. Raises RequestError for what ends the connection."""
        try:
            line = await reader.readline()
        except ValueError:
            raise RequestError("too_long", f"a request has at most {LINE_LIMIT} bytes") from None
        if len(self.clients.all) > MAX_CLIENTS:
            raise RequestError("busy", f"{MAX_CLIENTS} clients are connected already")
        return line if line.endswith(b"\n") else b""

    async def _reply(self, line: bytes) -> bytes:
        try:
            return await self._serve_request(decode_request(line))
        except RequestError as error:
            return encode_error(error)
        except UnknownName as error:
            return encode_error(RequestError("unknown_name", str(error)))
        except NoFleet as error:
            return encode_error(RequestError("bad_request", str(error)))
        except ClusterError as error:
            return encode_error(RequestError("unavailable", str(error)))
        except Exception:
            log.exception("control: a request ended in a defect of mailmapd")
            return encode_error(RequestError("failed", "a defect of mailmapd; its log says more"))

    async def _serve_request(self, request: Request) -> bytes:
        match request:
            case FlushOrder():
                return encode_reply(asdict(await self._controlled.flush(request)))
            case LookRequest():
                return encode_reply({"held": asdict(self._controlled.look(request))})
            case "cluster":
                return encode_reply({"members": await self._controlled.members()})
            case "reload":
                return encode_reply({"faults": await self._controlled.reload()})
            case "stats":
                return encode_reply({"stats": self._controlled.stats()})
