"""A server whose log is followed in a test: the events as they come, and their changes in readable form.

async with Followed(f"unix:{server.socket}", wanted) as followed:
    server.run_sql("INSERT INTO mail.alias VALUES ('a', 'b')")
    await followed.until(lambda events: any(isinstance(event, RowsChanged) for event in events))
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from mailmapd.databases.host_list import parse_hosts
from mailmapd.databases.mysql.binlog.events import Event
from mailmapd.databases.mysql.binlog.reader import Wanted
from mailmapd.databases.mysql.binlog.session import CannotFollow, Place
from mailmapd.databases.mysql.binlog.stream import BinlogStream, Replica
from mailmapd.databases.mysql.opener import MysqlOpener
from mailmapd.databases.settings import MysqlSettings
from mailmapd.errors import DatabaseError
from support.mariadb import MariaDB
from support.sql_server import SqlServer

REPLICA = "replica"
PASSWORD = "follow it"
PATIENCE = 30.0

LOGGED = (
    "--log-bin=binlog",
    "--binlog-format=ROW",
    "--server-id=1",
    "--sync-binlog=0",
)
"""Options that have a server write the log of its rows."""

MYSQL_GTIDS = ("--gtid-mode=ON", "--enforce-gtid-consistency=ON")
MYSQL_LOGGED = (*LOGGED, *MYSQL_GTIDS)


def grant_replication(server: SqlServer) -> None:
    """Make the account that may follow the log and nothing else."""
    quick = (
        "IDENTIFIED BY"
        if isinstance(server, MariaDB)
        else "IDENTIFIED WITH caching_sha2_password BY"
    )
    for host in ("localhost", "127.0.0.1"):
        server.run_sql(f"DROP USER IF EXISTS '{REPLICA}'@'{host}'")
        server.run_sql(f"CREATE USER '{REPLICA}'@'{host}' {quick} %s", PASSWORD)
        server.run_sql(f"GRANT REPLICATION SLAVE ON *.* TO '{REPLICA}'@'{host}'")


class Followed:
    """The events of one stream, in order; `lost` is why it ended."""

    def __init__(
        self,
        server: SqlServer,
        wanted: Wanted,
        *,
        place: Place | None = None,
        user: str = REPLICA,
        settings: MysqlSettings | None = None,
    ) -> None:
        settings = settings or MysqlSettings(
            hosts=(f"unix:{server.socket}",),
            user=user,
            password=PASSWORD if user == REPLICA else "",
        )
        self._replica = Replica(MysqlOpener(settings), parse_hosts(settings.hosts)[0])
        self._wanted = wanted
        self._place = place
        self._changed = asyncio.Event()
        self.events: list[Event] = []
        self.lost: DatabaseError | None = None
        self.place = Place()
        self.stream: BinlogStream | None = None

    async def __aenter__(self) -> Self:
        try:
            self.stream, self.place = await self._replica.open(
                self._wanted, self._hear, self._lose, self._place
            )
        except DatabaseError as error:
            if isinstance(error, CannotFollow) and "may not read the log" not in str(error):
                raise  # nothing was asked of the server yet
            self._lose(error)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.stream is not None:
            self.stream.close()
        await asyncio.sleep(0)

    async def until(self, seen: Callable[[list[Event]], bool]) -> None:
        """Wait for events that `seen` is content with, or for the end of the stream."""
        async with asyncio.timeout(PATIENCE):
            while not seen(self.events) and self.lost is None:
                self._changed.clear()
                await self._changed.wait()

    def of(self, *kinds: type) -> list[Event]:
        """Return the events of these kinds."""
        return [event for event in self.events if isinstance(event, kinds)]

    def _hear(self, events: list[Event]) -> None:
        self.events += events
        self._changed.set()

    def _lose(self, error: DatabaseError) -> None:
        self.lost = error
        self._changed.set()
