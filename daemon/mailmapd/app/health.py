"""The daemon's health: what it cannot do, and whether clients should come all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from mailmapd.app.first_contact import FirstContact
from mailmapd.app.front import Front
from mailmapd.config.schema import Config
from mailmapd.databases.interface import Database
from mailmapd.engine.engine import Engine
from mailmapd.model.legible import legible


class Watched(Protocol):
    """The daemon as its health is told from it."""

    front: Front
    reload_fault: str

    @property
    def config(self) -> Config:
        """Return the configuration in force."""
        ...

    @property
    def engine(self) -> Engine:
        """Return the engine in use."""
        ...

    def changes_problems(self) -> list[str]:
        """Return why changes that should be followed are not, one line each."""
        ...

    def auth_cache_problems(self) -> list[str]:
        """Return why Dovecot's auth cache does not forget, if it does not."""
        ...

    def cluster_problems(self) -> list[str]:
        """Return what keeps this host from hearing the others of its fleet, one line each."""
        ...

    @property
    def stopping(self) -> bool:
        """Return whether the daemon has been told to stop."""
        ...


class Health:
    """The health of a daemon.

    A hindrance keeps some clients from any answer: a balancer should send them elsewhere. A problem
    wants a person: while a database is away, answers from memory go on.
    """

    def __init__(self, daemon: Watched, contact: FirstContact) -> None:
        self._daemon = daemon
        self._contact = contact

    def hindrances(self) -> list[str]:
        """Return what keeps clients from being answered, one line each."""
        engine = self._daemon.engine
        found = ["the daemon is about to end"] if self._daemon.stopping else []
        found += self._daemon.front.doors.hindrances()
        for name, database in engine.databases.items():
            if not self._contact.reached(database) and not _remembers(engine, database):
                found.append(self._not_reached(name, database))
        return [legible(line) for line in found]

    def problems(self) -> list[str]:
        """Return what is not as it should be, one line each."""
        return [legible(line) for line in self._problems()]

    def line(self) -> str:
        """Return how the daemon is, in one line."""
        tables = self._daemon.engine.tables.values()
        hits = sum(table.hits + table.negative_hits for table in tables)
        asked = hits + sum(table.misses + table.coalesced for table in tables)
        ratio = f"{hits / asked:.1%} of {asked} from memory" if asked else "nothing asked yet"
        problems = self.problems()
        return f"{ratio}; {problems[0] if problems else 'all databases up'}"

    def _problems(self) -> Iterator[str]:
        engine = self._daemon.engine
        yield from self._daemon.front.doors.hindrances()
        if fault := self._daemon.reload_fault:
            yield f"the configuration on disk is wrong; the daemon goes on with the one before: {fault}"
        for name, table in engine.tables.items():
            if table.schema_error:
                yield f"table {name}: {table.schema_error}"
        for name, database in engine.databases.items():
            hosts = database.status()
            if not self._contact.reached(database):
                yield self._not_reached(name, database)
            elif not any(host.up for host in hosts):
                reasons = "; ".join(host.last_error or host.host for host in hosts)
                yield f"database {name}: no host can be reached ({reasons})"
        yield from self._daemon.changes_problems()
        yield from self._daemon.cluster_problems()
        yield from self._daemon.auth_cache_problems()
        yield from self._daemon.front.unknown_names()
        yield from self._daemon.front.doors.strays(self._daemon.config)

    def _not_reached(self, name: str, database: Database) -> str:
        error = self._contact.last_error(database)
        return f"database {name}: not reached yet{f' ({error})' if error else ''}"


def _remembers(engine: Engine, database: Database) -> bool:
    """Return whether memory holds answers of a database, from before the start."""
    return any(
        len(table.cache.rows) + len(table.cache.absences)
        for table in engine.tables.values()
        if table.database is database
    )
