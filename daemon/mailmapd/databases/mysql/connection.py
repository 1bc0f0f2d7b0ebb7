"""One logged-in connection: sends a query, reads the reply, tells its owner. It never waits and never decides."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Protocol

from mailmapd.databases.mysql.framing import WireError
from mailmapd.databases.mysql.identity import Identity
from mailmapd.databases.mysql.login import LoginCut
from mailmapd.databases.mysql.portions import AT_ONCE, Portions
from mailmapd.databases.mysql.wire import (
    QUIT,
    STATUS_IN_TRANSACTION,
    STATUS_NO_BACKSLASH_ESCAPES,
    ReplyReader,
    encode_query,
)
from mailmapd.template.sql_quoting import make_quote

if TYPE_CHECKING:
    from mailmapd.databases.mysql.login import Session
    from mailmapd.databases.mysql.wire import ServerError


MAX_SETTING = 64 * 1024
"""The longest reply to a command that sets the session up, in bytes: an OK or an error."""


class ConnectionOwner(Protocol):
    """Told what happens on a connection."""

    def replied(self, connection: MysqlConnection) -> None:
        """Hear that the reply to the last `send` is complete in `connection.reader`."""

    def lost(self, connection: MysqlConnection, reason: str) -> None:
        """Hear that the connection has ended; called once, also after `close`."""


class MysqlConnection(asyncio.Protocol):
    """A connection in its command phase, one query at a time.

    `quote` escapes values for this very connection: its character set, and the SQL mode that the
    server reports with each reply. `host` is the host's label; `read_only` says that the server has
    agreed to refuse writes; `identity` is the server's, where it was asked for.
    """

    def __init__(
        self, session: Session, owner: ConnectionOwner, *, host: str, charset: str, encoding: str
    ) -> None:
        self.owner = owner
        self.host = host
        self.reader = ReplyReader(encoding)
        self.idle_since = 0.0
        self._session = session  # as long as the transport: its stream writer warns of one that it did not close
        self.generation = 0
        self.retires_at = inf
        self.is_mariadb = session.is_mariadb
        self.read_only = False
        self.identity: Identity = ()
        self._charset = charset
        self._no_backslash_escapes = False
        self.quote = make_quote(charset, no_backslash_escapes=False)
        self._in_query = False
        self._closing = False
        self._lost = False
        self._transport = session.transport
        self._portions = Portions(self._transport, self._take)
        self._transport.set_protocol(self)

    @property
    def is_usable(self) -> bool:
        """Tell whether another query may be sent."""
        return not (self._closing or self._in_query or self._transport.is_closing())

    @property
    def in_transaction(self) -> bool:
        """Tell whether the last query left a transaction open, whose snapshot later queries would see."""
        return bool(self.reader.status & STATUS_IN_TRANSACTION)

    def send(self, sql: bytes, limit: int | None = None) -> None:
        """Send a query; the owner hears of the reply, of at most `limit` bytes where that is less, or of the loss."""
        self.reader.start(limit=limit)
        self._in_query = True
        self._transport.write(encode_query(sql))

    def hand_over(self, protocol: asyncio.BaseProtocol) -> asyncio.Transport:
        """Let another protocol have the transport; the connection itself may only be asked for its `quote` then."""
        self._closing = self._lost = True
        self._transport.set_protocol(protocol)
        return self._transport

    def close(self) -> None:
        """End the connection in order."""
        if not self._closing and not self._transport.is_closing():
            self._closing = True
            self._transport.write(QUIT)
            self._transport.close()

    def abort(self) -> None:
        """End the connection at once; what it was doing is lost."""
        self._closing = True
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read a piece of the reply: at once if it is short, as nearly all are."""
        if len(data) > AT_ONCE or self._portions.waiting:
            self._portions.receive_data(data)
        else:
            self._take(data)

    def _take(self, data: bytes) -> bool:
        """Read a part of the reply; return whether more may follow."""
        if self._closing:
            return False
        if not self._in_query:
            # Only a farewell comes unasked: the server shuts down, or ends an idle connection.
            self._end("the server ended the connection")
            return False
        try:
            complete = self.reader.receive_data(data)
            if complete and self._portions.waiting:
                raise WireError("bytes follow a complete reply")
        except WireError as error:
            self._end(str(error))
            return False
        if complete:
            self._in_query = False
            if self.reader.error is None:
                self._follow_sql_mode()
            self.owner.replied(self)
        return not complete

    def eof_received(self) -> bool:
        """Let the transport close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner, unless it knows."""
        self._tell(getattr(exc, "strerror", None) or "the server closed the connection")

    def _end(self, reason: str) -> None:
        self.abort()
        self._tell(reason)

    def _tell(self, reason: str) -> None:
        self._closing = True
        if not self._lost:
            self._lost = True
            self.owner.lost(self, reason)

    def _follow_sql_mode(self) -> None:
        no_backslash_escapes = bool(self.reader.status & STATUS_NO_BACKSLASH_ESCAPES)
        if no_backslash_escapes != self._no_backslash_escapes:
            self._no_backslash_escapes = no_backslash_escapes
            self.quote = make_quote(self._charset, no_backslash_escapes=no_backslash_escapes)


class PreparingOwner:
    """Owns a connection while its session is set up, command by command."""

    def __init__(self) -> None:
        self._reply: asyncio.Future[None] | None = None
        self._reason = ""

    async def run(
        self, connection: MysqlConnection, sql: str, limit: int = MAX_SETTING
    ) -> ServerError | None:
        """Send a command, in ASCII, and wait for its reply of at most `limit` bytes.

        Return what the server refused it with. Raises LoginCut.
        """
        if self._reason:
            raise LoginCut(f"{connection.host}: {self._reason}", host=connection.host)
        self._reply = asyncio.get_running_loop().create_future()
        connection.send(sql.encode("ascii"), limit)
        await self._reply
        return connection.reader.error

    def replied(self, connection: MysqlConnection) -> None:  # noqa: ARG002  # the interface's
        """Wake `run`."""
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(None)

    def lost(self, connection: MysqlConnection, reason: str) -> None:
        """Fail `run`, now or when it is called next."""
        self._reason = reason
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(
                LoginCut(f"{connection.host}: {reason}", host=connection.host)
            )
