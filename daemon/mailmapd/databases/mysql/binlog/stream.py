"""A stream: a server is asked for its log as a replica would ask, from a place where all before it is visible.

It needs the privilege REPLICATION SLAVE (REPLICATION REPLICA by MariaDB's newer name), and nothing else.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from mailmapd.databases.host_list import HostAddress
from mailmapd.databases.mysql.binlog.commands import PlaceError, encode_dump, encode_dump_gtid
from mailmapd.databases.mysql.binlog.events import Event
from mailmapd.databases.mysql.binlog.reader import BinlogError, BinlogReader, Wanted
from mailmapd.databases.mysql.binlog.session import (
    ANSWER,
    CannotFollow,
    Place,
    Session,
)
from mailmapd.databases.mysql.connection import MysqlConnection, PreparingOwner
from mailmapd.databases.mysql.identity import Identity
from mailmapd.databases.mysql.opener import MysqlOpener
from mailmapd.errors import DatabaseError, DatabaseUnavailable

_BUFFER = 64 * 1024  # bytes that are taken at one go; when it is full, more is there already
_TURN = 0.0001  # seconds of reading after which lookups have theirs
_TOGETHER = 0.00003  # seconds of events that are told together: telling takes longer still

_ACCESS_DENIED = frozenset((1045, 1142, 1227))
_FATAL = 1236  # ER_MASTER_FATAL_ERROR_READING_BINLOG
_SAME_SERVER_ID = "same server_uuid/server_id"  # MariaDB has a number for it (4052), MySQL has not


class LogLost(DatabaseError):
    """The log does not go on from the place that was asked for: it was purged, begun anew, or is another one."""


class SameServerId(DatabaseUnavailable):
    """Another replica came with our server id, and the server has ended our stream for it."""


Heard = Callable[[list[Event]], None]
Lost = Callable[[DatabaseError], None]


class BinlogStream(asyncio.BufferedProtocol):
    """A running stream. `heard` is told events, `lost` once why there will be no more of them."""

    def __init__(self, reader: BinlogReader, host: str, heard: Heard, lost: Lost) -> None:
        self.reader = reader
        self.host = host
        self._heard = heard
        self._lost: Lost | None = lost
        self._transport: asyncio.Transport | None = None
        self._working = False
        self._buffer = memoryview(
            bytearray(_BUFFER)
        )  # TLS takes slices of it, which must be no copies
        self._begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, connection: MysqlConnection, command: bytes) -> None:
        """Take a connection over and send the command that starts the stream."""
        self._transport = connection.hand_over(self)
        self._transport.write(command)

    async def first_word(self) -> None:
        """Wait until the server sends its log: one that refuses does so now.

        Raises CannotFollow, DatabaseUnavailable.
        """
        try:
            async with asyncio.timeout(ANSWER):
                await self._begun
        except TimeoutError:
            raise DatabaseUnavailable(
                f"{self.host}: the log does not begin", host=self.host
            ) from None

    def close(self) -> None:
        """End the stream; nobody is told."""
        self._lost = None
        if self._transport is not None:
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # the interface's
        """Return where bytes go: always to the same place, whose memory is there already."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Read events, for a moment; what is left waits for the next turn, and the server with it."""
        self.reader.receive_data(self._buffer[:nbytes])
        if self._working:
            return
        if nbytes < _BUFFER:
            self._work()
        elif self._transport is not None:  # more will come at once, again and again
            self._rest(self._transport)

    def _work(self) -> None:
        begun = time.monotonic()
        self._working = False
        while self._lost is not None and not self._working:
            told = time.monotonic() + _TOGETHER
            events: list[Event] = []
            more = False
            try:
                for event in self.reader.events():
                    if event is not None:
                        events.append(event)
                    if time.monotonic() >= told:
                        more = True
                        break
            except BinlogError as error:
                self._tell(events)
                self._end(_refusal(error, self.host))
                return
            self._tell(events)
            if not more:
                break
            self._working = time.monotonic() >= begun + _TURN
        if self._transport is not None and not self._transport.is_closing():
            if self._working:
                self._rest(self._transport)
            else:
                self._transport.resume_reading()

    def _rest(self, transport: asyncio.Transport) -> None:
        """Let lookups have their turn, and hold the server up meanwhile."""
        self._working = True
        transport.pause_reading()
        asyncio.get_running_loop().call_soon(self._work)  # behind what is ready now

    def _tell(self, events: list[Event]) -> None:
        if events and self._lost is not None:
            if not self._begun.done():
                self._begun.set_result(None)
            self._heard(events)

    def eof_received(self) -> bool:
        """Let the transport close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that the stream has ended."""
        reason = getattr(exc, "strerror", None) or "the server closed the connection"
        self._end(DatabaseUnavailable(f"{self.host}: {reason}", host=self.host))

    def _end(self, error: DatabaseError) -> None:
        lost, self._lost = self._lost, None
        if self._transport is not None:
            self._transport.abort()
        if not self._begun.done():
            self._begun.set_exception(error)
        elif lost is not None:
            lost(error)


def _refusal(error: BinlogError, host: str) -> DatabaseError:
    if error.code in _ACCESS_DENIED:
        return CannotFollow(f"{host}: the account may not read the log: {error}")
    if _SAME_SERVER_ID in str(error):
        return SameServerId(f"{host}: {error}", host=host)
    if error.code == _FATAL:
        return LogLost(f"{host}: the log ended: {error}")
    return DatabaseUnavailable(f"{host}: the log ended: {error}", host=host)


class Replica:
    """Asks one server for its log. Its `server_id` is a random one: of two with the same the older one is ended."""

    def __init__(self, opener: MysqlOpener, address: HostAddress) -> None:
        self._opener = opener
        self._address = address
        self.host = address.label
        self.server_id = 0
        self.choose_server_id()

    def choose_server_id(self) -> None:
        """Take another id from now on."""
        self.server_id = random.getrandbits(31) | 1

    async def open(
        self,
        wanted: Wanted,
        heard: Heard,
        lost: Lost,
        place: Place | None = None,
        identity: Identity = (),
    ) -> tuple[BinlogStream, Place]:
        """Return a running stream and where it began: at `place`, or where everything before it is visible.

        Raises CannotFollow, DatabaseUnavailable, also when the server refuses, or is not the one with this `identity`.
        `heard` may be told something before.
        """
        owner = PreparingOwner()
        connection = await self._opener.open(self._address, owner, limit_queries=False)
        try:
            session = Session(connection, owner)
            await session.check_fitness()
            if identity and await session.identity() != identity:
                raise DatabaseUnavailable(
                    f"{self.host}: the log's connection reaches another server than others",
                    host=self.host,
                )
            place = place or await session.visible_place()
            checksum = await session.prepare(self.server_id)
            if connection.is_mariadb:
                if not place.file:
                    await session.connect_behind(place.gtid)
                command = encode_dump(place.file, place.position, self.server_id)
            else:
                command = encode_dump_gtid(place.gtid, self.server_id)
        except PlaceError as error:
            connection.abort()
            raise CannotFollow(f"{self._address.label}: {error}") from None
        except BaseException:
            connection.abort()
            raise
        stream = BinlogStream(
            BinlogReader(wanted, checksum=checksum), self._address.label, heard, lost
        )
        stream.reader.file = place.file
        stream.begin(connection, command)
        try:
            await stream.first_word()
        except BaseException:
            stream.close()
            raise
        return stream, place
