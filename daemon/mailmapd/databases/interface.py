"""The interface between tables and databases. The engine sees this and nothing of aiomysql or aiosqlite.

What a failure means to the caller:

    DatabaseUnavailable   a host, a connection or a deadline: a stale answer may stand in for it
    DatabaseOverloaded    our own budget: the same
    DataError             this key cannot be evaluated: remember it for the key, briefly
    SchemaError           this table's query does not fit: every key of the table will fail
    DatabaseError itself  an error number we do not know: a temporary failure of this query and nothing more
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mailmapd.errors import (
    DatabaseError,
    DatabaseOverloaded,
    DatabaseUnavailable,
    DataError,
    SchemaError,
)
from mailmapd.model import ResultSet

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from mailmapd.model import Row
    from mailmapd.template.statement import Statement


Done = Callable[[ResultSet | DatabaseError], None]
"""Told the rows of a statement, or why there are none."""


class DatabaseObserver(Protocol):
    """Told what a database does, with plain values (times in seconds). Implementations must not block or raise."""

    def query_finished(self, database: str, host: str, outcome: str, seconds: float) -> None:
        """One query ended; `outcome` is one of ok, data_error, schema_error, unavailable, timeout, overloaded, error.

        `host` is empty when the query never reached one (overloaded, or every host down).
        """

    def host_state(self, database: str, host: str, up: bool) -> None:
        """Hear that a host was found reachable or not."""


class SilentObserver:
    """An observer that keeps nothing, for commands that show no metrics."""

    def query_finished(self, database: str, host: str, outcome: str, seconds: float) -> None:
        """Do nothing."""

    def host_state(self, database: str, host: str, up: bool) -> None:
        """Do nothing."""


def outcome_of(error: DatabaseError) -> str:
    """Return the observer's word for a failure; only the database itself can tell a timeout."""
    match error:
        case DataError():
            return "data_error"
        case SchemaError():
            return "schema_error"
        case DatabaseOverloaded():
            return "overloaded"
        case DatabaseUnavailable():
            return "unavailable"
        case _:
            return "error"


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host as `stats`, `/readyz` and the metrics show it."""

    host: str
    up: bool
    idle: int
    busy: int
    last_error: str


class Database(Protocol):
    """A server group (or file) that runs statements.

    Every method raises a `DatabaseError` and nothing else (`submit` tells it instead); an empty
    `ResultSet` is a definite "no row". Construction touches neither network nor disk: the first
    statement opens the first connection.
    """

    @property
    def name(self) -> str:
        """Return the configured name, for logs and metrics."""
        ...

    def submit(self, statement: Statement, done: Done) -> None:
        """Run the statement within the configured deadlines; `done` is called once with all of its rows or the failure.

        That happens later, never before `submit` returns, and without a turn of the event loop
        between the reply and the call.
        """
        ...

    async def fetch(self, statement: Statement) -> ResultSet:
        """Do what `submit` does, and return the rows.

        A caller may be cancelled at any time; the connection stays usable.
        """
        ...

    def stream(
        self, statement: Statement, batch: int = 1000
    ) -> AsyncGenerator[tuple[tuple[str, ...], Sequence[Row]], None]:
        """Run the statement and yield (column names, up to `batch` rows) without holding the whole result.

        Yields once, with no rows, when the result is empty. The generator must be exhausted or
        closed (`contextlib.aclosing`).
        """
        ...

    def describe(self, statement: Statement) -> str:
        """Return the SQL as it would be sent, for `trace`.

        Escaped for the connection in use or the configured character set.
        """
        ...

    def status(self) -> list[HostStatus]:
        """Return the state of every host."""
        ...

    async def close(self) -> None:
        """Close every connection; running statements fail with `DatabaseUnavailable`. Safe to call twice."""
        ...
