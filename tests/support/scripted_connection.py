"""Connections of a database that a test plays itself: what is sent is kept, and replies, losses and
refusals are the test's.

opener = ScriptedOpener()
database = ScriptedDatabase(opener, pool_size=2)
database.dispatcher.submit(statement, done)
await opener.settle()                    # the pool has opened what it wants
opener.connections[0].reply(b"row")      # or .lose(), .refuse(1045, "…")
"""

from __future__ import annotations

import asyncio
import random
from math import inf

from mailmapd.databases.host_list import HostAddress, parse_hosts
from mailmapd.databases.interface import SilentObserver
from mailmapd.databases.mysql.connection import ConnectionOwner
from mailmapd.databases.mysql.dispatch import Dispatcher
from mailmapd.databases.mysql.framing import encode_payload
from mailmapd.databases.mysql.host import HostGroups
from mailmapd.databases.mysql.pool import ConnectionPool
from mailmapd.databases.mysql.watch import HostWatch
from mailmapd.databases.mysql.wire import ReplyReader
from mailmapd.databases.settings import MysqlSettings
from mailmapd.errors import DatabaseError
from mailmapd.template.sql_quoting import make_quote
from support.clock import FakeClock

_COLUMN = b"\x03def\0\0\0\x01a\0\x0c\x2d\0\0\1\0\0\xfd\0\0\0\0\0"
_EOF = b"\xfe\0\0\2\0"


class ScriptedConnection:
    """Looks like a MysqlConnection to the pool and the dispatcher, and does what the test says."""

    def __init__(self, owner: ConnectionOwner, host: str) -> None:
        self.owner = owner
        self.host = host
        self.reader = ReplyReader()
        self.idle_since = 0.0
        self.generation = 0
        self.retires_at = inf
        self.read_only = True
        self.in_transaction = False
        self.is_usable = True
        self.quote = make_quote("utf8mb4", no_backslash_escapes=False)
        self.sent: list[bytes] = []
        self.answered = 0
        self.ended = ""

    def send(self, sql: bytes, limit: int | None = None) -> None:
        """Keep what is sent."""
        self.reader.start(limit=limit)
        self.sent.append(sql)

    def close(self) -> None:
        """Note an end in order."""
        self._end("closed")

    def abort(self) -> None:
        """Note an end at once."""
        self._end("aborted")

    def reply(self, value: bytes) -> None:
        """Answer with one row of one value."""
        row = bytes([len(value)]) + value
        payloads = (b"\x01", _COLUMN, _EOF, row, _EOF)
        self._hear(*payloads)

    def refuse(self, code: int, text: str) -> None:
        """Answer with an error."""
        self._hear(b"\xff" + code.to_bytes(2, "little") + b"#HY000" + text.encode())

    def lose(self) -> None:
        """End the connection from the server's side."""
        self.is_usable = False
        self.owner.lost(self, "the server closed the connection")  # type: ignore[arg-type]

    def _hear(self, *payloads: bytes) -> None:
        packets = [encode_payload(payload, number) for number, payload in enumerate(payloads, 1)]
        assert self.reader.receive_data(b"".join(packets))
        self.answered += 1
        self.owner.replied(self)  # type: ignore[arg-type]

    def _end(self, how: str) -> None:
        if not self.ended:
            self.ended = how
            self.is_usable = False
            asyncio.get_running_loop().call_soon(self.owner.lost, self, how)  # type: ignore[arg-type]


class ScriptedOpener:
    """Opens such connections, or raises what the test has put into `failures`, host by host."""

    def __init__(self) -> None:
        self.connections: list[ScriptedConnection] = []
        self.failures: dict[str, DatabaseError] = {}
        self.attempts: list[str] = []

    async def open(self, address: HostAddress, owner: ConnectionOwner) -> ScriptedConnection:
        """Return a connection that belongs to `owner`."""
        self.attempts.append(address.label)
        if address.label in self.failures:
            raise self.failures[address.label]
        self.connections.append(ScriptedConnection(owner, address.label))
        return self.connections[-1]

    async def settle(self) -> None:
        """Let the loop do what is due now."""
        for _ in range(10):
            await asyncio.sleep(0)


class ScriptedDatabase:
    """A pool and a dispatcher as MysqlDatabase puts them together, over a scripted opener and a test's clock."""

    def __init__(self, opener: ScriptedOpener, *hosts: str, **settings: float) -> None:
        made = MysqlSettings(hosts=hosts or ("db1",), **settings)  # type: ignore[arg-type]
        self.clock = FakeClock()
        # # choosing a host is no secret
        self.hosts = HostGroups(parse_hosts(made.hosts), (), random.Random(1))
        told = SilentObserver()
        watch = HostWatch("mail", self.hosts, opener=opener, observer=told, interval=60.0)  # type: ignore[arg-type]
        self.pool = ConnectionPool(
            "mail",
            made,
            self.hosts,
            opener=opener,  # type: ignore[arg-type]
            watch=watch,
            clock=self.clock,
        )
        self.dispatcher = Dispatcher(
            "mail", made, self.hosts, self.pool, observer=told, clock=self.clock
        )
