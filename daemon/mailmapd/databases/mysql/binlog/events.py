"""Events of a binary log: one value for each that matters to a cache.

`position` is where the event ends in the server's log, in bytes; 0 for an event that is not in the log itself.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class Absent(Enum):
    """The one value of a column that a row image does not have (binlog_row_image MINIMAL or NOBLOB)."""

    ABSENT = 0


ABSENT: Final = Absent.ABSENT

Value = bytes | None | Absent
"""A column's raw bytes as the log has them, without their length; None is NULL."""

Image = tuple[Value, ...]
"""The wanted columns of a row, in the order of `TableShape.ordinals`."""


class Kind(Enum):
    """The kind of a change of rows."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


class Change(NamedTuple):
    """One row before and after: an inserted row has no before, a deleted one no after."""

    before: Image | None
    after: Image | None


class RowsChanged(NamedTuple):
    """Rows of one table, as one event of a statement has them."""

    schema: str
    table: str
    kind: Kind
    changes: list[Change]
    position: int


class RowsUnreadable(NamedTuple):
    """Rows of this table changed, but how cannot be read; `reason` is in a person's words."""

    schema: str
    table: str
    reason: str
    position: int


class StatementLogged(NamedTuple):
    """A statement as text: BEGIN and COMMIT, all DDL, and with other formats than ROW what changes rows.

    `schema` is the default one at that time, empty for none.
    """

    schema: str
    sql: str
    position: int


class TransactionBegun(NamedTuple):
    """A transaction with its global identifier: ``uuid:number`` on MySQL, ``domain-server-number`` on MariaDB.

    `committed` is when, where it was committed first: every server that has the transaction says the same. It is in
    seconds on MariaDB, in microseconds on MySQL, and 0 where the log does not say. `stands_alone` is MariaDB's word for
    what no commit ends: DDL, and what comes in two phases.
    """

    gtid: str
    position: int
    committed: int = 0
    stands_alone: bool = False


class TransactionEnded(NamedTuple):
    """The transaction's changes are logged completely. They may not be visible to every reader yet."""

    position: int


class TransactionPrepared(NamedTuple):
    """An XA transaction's changes are logged; they become visible with a later XA COMMIT."""

    position: int


class LogRotated(NamedTuple):
    """The log goes on in another file, from this position."""

    file: str
    position: int


class LogOpened(NamedTuple):
    """The file that the log goes on in was begun at this time, in seconds; it says so wherever reading begins."""

    created: int


class Heartbeat(NamedTuple):
    """Nothing has happened for a heartbeat's period, and the server is there."""

    position: int


class NotUnderstood(NamedTuple):
    """Something that this codec does not know, or that was lost: nothing known before may be believed any more."""

    reason: str
    position: int


Event = (
    RowsChanged
    | RowsUnreadable
    | StatementLogged
    | TransactionBegun
    | TransactionEnded
    | TransactionPrepared
    | LogRotated
    | LogOpened
    | Heartbeat
    | NotUnderstood
)
