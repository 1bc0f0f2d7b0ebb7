"""A session: what is asked of a server whose log is followed, before its stream begins and beside it.

A place in a log proves what readers see. On MariaDB it is that of the last commit (`Binlog_snapshot_file` and
`_position`), on MySQL the set of transactions that are executed (`gtid_executed`): neither needs a privilege, and a row
that is read after either was asked for is as the log before that place says, or newer. SHOW MASTER STATUS says no such
thing: it runs ahead of what readers see. So does MariaDB's place where the log has just gone on in another file; see
`fence`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mailmapd.databases.host_list import HostAddress
from mailmapd.databases.mysql.binlog.commands import PlaceError
from mailmapd.databases.mysql.connection import MysqlConnection, PreparingOwner
from mailmapd.databases.mysql.identity import COLUMNS as IDENTITY_COLUMNS
from mailmapd.databases.mysql.identity import Identity, identity_query, read_identity
from mailmapd.databases.mysql.opener import MysqlOpener
from mailmapd.errors import DatabaseError, DatabaseUnavailable
from mailmapd.model import Row

HEARTBEAT = 1.0
"""Seconds without an event after which the server says that it is there."""

ANSWER = 3.0
"""Seconds for which the answer to a question beside the stream is waited for."""

CATALOG_ANSWER = 60.0
"""The same of one that has a server look at all of its tables."""

MAX_ANSWER = 4 * 1024 * 1024
"""The most bytes of memory that an answer may take."""

MAX_CATALOG = 64 * 1024 * 1024
"""The same of one about all tables: two hundred thousand columns."""

_ENDED_FOR_TIME = frozenset((1969, 3024))  # of MariaDB, of MySQL
_UNPROVEN_LEVEL = "READ-UNCOMMITTED"
_GTID_LETTERS = frozenset("0123456789-,")


class CannotFollow(DatabaseError):
    """This server's log cannot be followed as things are; the text says why, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a server's log: a file and a position on MariaDB, executed transactions on MySQL.

    Without a file, MariaDB's log is asked for by `gtid`, the last transaction of each domain.
    """

    file: str = ""
    position: int = 0
    gtid: str = ""


class Committed(NamedTuple):
    """The place of MariaDB's last commit, and how many there were since the server started, at one moment."""

    place: Place
    commits: int


class TooSlow(DatabaseError):
    """The server has ended a statement that took longer than it may."""


class NoAnswer(DatabaseUnavailable):
    """The server has not answered in time, and the connection is ended."""


class NoLog(CannotFollow):
    """The server does not log what changes in it."""


async def open_session(opener: MysqlOpener, address: HostAddress) -> Session:
    """Return a session on a connection of its own. Raises DatabaseUnavailable.

    Its statements may take as long as their answers are waited for, and not as long as a lookup.
    """
    owner = PreparingOwner()
    return Session(await opener.open(address, owner, longest=ANSWER), owner)


class Session:
    """Statements on a connection of our own, before the stream begins or beside it."""

    def __init__(self, connection: MysqlConnection, owner: PreparingOwner) -> None:
        self._connection = connection
        self._owner = owner
        self.host = connection.host
        self.is_mariadb = connection.is_mariadb

    @property
    def is_open(self) -> bool:
        """Return whether another statement may be sent."""
        return self._connection.is_usable

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    async def identity(self) -> Identity:
        """Return what tells this server from every other one."""
        query = identity_query(is_mariadb=self.is_mariadb)
        return read_identity(await self.rows(query, IDENTITY_COLUMNS))

    async def rows(
        self, sql: str, columns: int, seconds: float = ANSWER, most: int = MAX_ANSWER
    ) -> Sequence[Row]:
        """Return rows of this many columns.

        Raises DatabaseError for a refusal and for other rows, DatabaseUnavailable when the connection ends, or no
        answer comes within `seconds`.
        """
        host = self._connection.host
        try:
            async with asyncio.timeout(seconds):
                refusal = await self._owner.run(self._connection, sql, most)
        except TimeoutError:
            self._connection.abort()
            raise NoAnswer(f"{host}: no answer for {seconds:g} s", host=host) from None
        if refusal is not None:
            kind = TooSlow if refusal.code in _ENDED_FOR_TIME else DatabaseError
            raise kind(f"{host}: {refusal.text} (error {refusal.code})")
        reader = self._connection.reader
        if len(reader.columns or ()) != columns:
            raise DatabaseError(f"{host}: an answer has not the columns that were asked for: {sql}")
        return reader.take_rows()

    async def value(self, sql: str) -> str:
        """Return the one value that a query asks for, NULL as an empty text. Raises as `rows` does."""
        rows = await self.rows(sql, 1)
        if len(rows) != 1:
            raise DatabaseError(f"{self._connection.host}: not one row, but {len(rows)}: {sql}")
        return _text(rows[0][0])

    async def variables(self, *names: str) -> dict[str, str]:
        """Return global variables of the server by name; one that it does not have is an empty text."""
        listed = ", ".join(f"'{name}'" for name in names)
        sql = f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({listed})"
        found = {_text(row[0]).lower(): _text(row[1]) for row in await self.rows(sql, 2)}
        return {name: found.get(name, "") for name in names}

    async def limit(self, seconds: float) -> None:
        """Have the server end a SELECT that takes longer from now on. Raises DatabaseError."""
        limit = f"max_statement_time = {seconds:g}"
        if not self.is_mariadb:
            limit = f"max_execution_time = {_milliseconds(seconds)}"
        await self.rows(f"SET SESSION {limit}", 0)

    def limited(self, select: str, seconds: float) -> str:
        """Return a SELECT that the server ends when it takes longer."""
        if self.is_mariadb:
            return f"SET STATEMENT max_statement_time = {seconds:.3f} FOR {select}"
        hint = f"SELECT /*+ MAX_EXECUTION_TIME({_milliseconds(seconds)}) */"
        return select.replace("SELECT", hint, 1)

    async def check_fitness(self) -> None:
        """Raise CannotFollow where the log would not say what has changed."""
        host = self._connection.host
        settings = await self.variables(
            "log_bin",
            "binlog_format",
            "gtid_mode",
            "log_slave_updates",
            "log_replica_updates",
            "gtid_slave_pos",
            "binlog_order_commits",
            "binlog_optimize_thread_scheduling",
        )
        # MySQL logs what it replicates unless told not to, MariaDB only when told to. A position says that it does.
        replicates = not self._connection.is_mariadb or settings["gtid_slave_pos"]
        logged = (settings["log_slave_updates"] or settings["log_replica_updates"]).upper()
        if logged == "OFF" and replicates:
            raise NoLog(
                f"{host}: the server does not log what it replicates; set log_slave_updates = ON"
            )
        if settings["log_bin"].upper() not in {"ON", "1"}:
            raise NoLog(f"{host}: the server writes no binary log; set log_bin")
        if settings["binlog_format"].upper() not in {"ROW", ""}:
            raise CannotFollow(
                f"{host}: binlog_format is {settings['binlog_format']}, which logs statements, not rows; "
                "set binlog_format = ROW"
            )
        if settings["binlog_order_commits"].upper() == "OFF":
            raise CannotFollow(
                f"{host}: binlog_order_commits is OFF, so that a change may be visible later than one that is logged "
                "behind it; set binlog_order_commits = ON"
            )
        if settings["binlog_optimize_thread_scheduling"].upper() == "OFF":
            raise CannotFollow(
                f"{host}: binlog_optimize_thread_scheduling is OFF, so that the server names a place in its log before "
                "the changes there can be seen; start it without that option"
            )
        level = await self._isolation()
        if level.upper() == _UNPROVEN_LEVEL:
            raise CannotFollow(
                f"{host}: the account's sessions have the isolation level {level}: they see rows that are rolled back "
                "later, of which the log says nothing; set transaction_isolation = REPEATABLE-READ or READ-COMMITTED"
            )
        if not self._connection.is_mariadb and settings["gtid_mode"].upper() != "ON":
            raise CannotFollow(
                f"{host}: gtid_mode is {settings['gtid_mode'] or 'not there'}, and without it the server cannot "
                "prove that a change is visible; set gtid_mode = ON and enforce_gtid_consistency = ON"
            )

    async def _isolation(self) -> str:
        """Return the isolation level of the account's sessions; it has another name on MariaDB before 11.1."""
        found = await self.rows(
            "SHOW SESSION VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation')",
            2,
        )
        return _text(found[0][1]) if found else ""

    async def visible_place(self) -> Place:
        """Return a place in the log: whoever reads a row from now on reads what the log before it says, or newer."""
        if not self._connection.is_mariadb:
            executed = await self.value("SELECT @@global.gtid_executed")
            return Place(gtid=executed.replace("\n", ""))
        return (await self.committed()).place

    async def committed(self) -> Committed:
        """Return where MariaDB's commits stand: all until then are visible to whoever reads a row from now on."""
        status = await self.rows("SHOW STATUS LIKE 'Binlog_%'", 2)
        found = {_text(name).lower(): _text(value) for name, value in status}
        file = found.get("binlog_snapshot_file", "")
        position = found.get("binlog_snapshot_position", "")
        count = found.get("binlog_commits", "")
        if not (position.isdecimal() and count.isdecimal() and file):
            raise CannotFollow(
                f"{self._connection.host}: the server writes no binary log; set log_bin"
            )
        return Committed(Place(file, int(position)), int(count))

    async def connect_behind(self, gtid: str) -> None:
        """Have MariaDB's stream begin behind the last transactions of each domain, exactly those. Raises PlaceError."""
        if not set(gtid) <= _GTID_LETTERS:
            raise PlaceError(f"no identifier of a transaction: {gtid!a}")
        await self.rows(
            f"SET @slave_connect_state = '{gtid}', @slave_gtid_strict_mode = 1,"
            " @slave_gtid_ignore_duplicates = 0",
            0,
        )

    async def prepare(self, server_id: int) -> bool:
        """Make the session's settings for a stream; return whether events end in a checksum."""
        checksum = await self.value("SELECT @@global.binlog_checksum")
        period = round(HEARTBEAT * 1e9)
        same = uuid.UUID(int=server_id)
        for names, value in (
            (("master_binlog_checksum", "source_binlog_checksum"), "@@global.binlog_checksum"),
            (("master_heartbeat_period", "source_heartbeat_period"), str(period)),
            (("slave_uuid", "replica_uuid"), f"'{same}'"),
            (("mariadb_slave_capability",), "4"),
        ):
            await self.rows("SET " + ", ".join(f"@{name} = {value}" for name in names), 0)
        return checksum.upper() not in {"NONE", ""}


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")
