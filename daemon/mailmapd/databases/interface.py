"""The interface between tables and databases. The engine sees this and nothing of aiomysql or aiosqlite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mailmapd.model import ResultSet, Row
from mailmapd.template.statement import Statement


class DatabaseObserver(Protocol):
    """Told what a database does, with plain values (times in seconds). Implementations must not block or raise."""

    def query_finished(self, database: str, host: str, outcome: str, seconds: float) -> None:
        """One query ended; `outcome` is one of ok, data_error, schema_error, unavailable, timeout, overloaded."""

    def host_state(self, database: str, host: str, up: bool) -> None:
        """A host was found reachable or not."""


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

    Every method raises a `DatabaseError` subclass and nothing else; an empty `ResultSet` is a definite "no row".
    """

    name: str

    async def fetch(self, statement: Statement) -> ResultSet:
        """Run the statement and return all of its rows, within the configured deadlines."""
        ...

    def stream(self, statement: Statement, batch: int = 1000) -> AsyncIterator[tuple[tuple[str, ...], Sequence[Row]]]:
        """Run the statement and yield (column names, up to `batch` rows) without holding the whole result."""
        ...

    def describe(self, statement: Statement) -> str:
        """Return the SQL as it would be sent, for `trace`; escaped for the connection in use or the configured character set."""
        ...

    def status(self) -> list[HostStatus]:
        """Return the state of every host."""
        ...

    async def close(self) -> None:
        """Close every connection; running statements fail with `DatabaseUnavailable`. Safe to call twice."""
        ...
