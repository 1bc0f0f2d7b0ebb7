"""Origins: where the answers of a table come from when memory has none.

`QueryOrigin` is the last of them: a definition over a database. Whatever else may know stands in
front of it with the same few methods.

A row that cannot be used, or a key that the database cannot evaluate, fails that key alone and is
remembered briefly; a query that does not fit the database's schema fails the table at once, and is
tried again every `SCHEMA_RETRY` seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from cachetools import TTLCache

from mailmapd.cache.table_cache import ABSENCE, KEPT_KEY
from mailmapd.databases.interface import Database
from mailmapd.engine.definition import Definition
from mailmapd.engine.outcome import Failure, Known
from mailmapd.errors import DEFECT, DatabaseError, DataError, SchemaError
from mailmapd.model import ResultSet

log = logging.getLogger(__name__)

POISON_MEMORY = 5.0  # seconds for which a key that the database cannot evaluate is not asked again
POISON_KEYS = 2000  # how many such keys are remembered, of those that are no longer than an address
SCHEMA_RETRY = 1.0  # seconds between tries of a query that does not fit the schema
REFRESH_RETRY = 0.5  # seconds without new background fetches after one found the database away
# Seconds to wait for a database that should answer, while a stale answer is at hand; then for none
# until it answers
STALE_PATIENCE = 0.25


class Done(Protocol):
    """Gets what an origin says of a key.

    Without `left` the database has just said it. Else it is good for `left` seconds more; or, not above zero, its
    ordinary time has ended as long ago, and it stands in because the database cannot tell.
    """

    def __call__(self, known: Known, left: float | None = None, /) -> None:
        """Hear it."""


class Origin(Protocol):
    """Gives a table its answers: a definition over a database, in the end.

    `patience` is for how many seconds a stale answer may be held back in the hope of a fresh one.
    """

    definition: Definition
    database: Database
    patience: float

    @property
    def schema_error(self) -> str:
        """Return why no query of the table works now, or an empty text."""
        ...

    def fetch(self, sql_key: bytes, done: Done) -> None:
        """Ask for a key. `done` gets what is found, once, and later than this call."""
        ...

    def renew(self, sql_key: bytes, done: Callable[[Known], None]) -> None:
        """Ask the database for a key, whatever anybody else knows of it."""
        ...

    def refusal(self, sql_key: bytes, now: float) -> Failure | None:
        """Return how asking for the key would end, when that is known without asking."""
        ...

    def away(self) -> bool:
        """Return whether it would be in vain to wait for an answer."""
        ...

    def lose_patience(self) -> None:
        """Note that an answer did not come in time; nobody waits for the next one until one has come."""
        ...

    def spared(self, now: float) -> bool:
        """Return whether nothing should be fetched ahead of need for the moment."""
        ...

    def refused(self) -> Iterable[bytes]:
        """Return the keys that are known to fail by their own fault."""
        ...

    def forget(self, sql_keys: Iterable[bytes]) -> None:
        """Ask anew for keys that failed by their own fault."""
        ...

    def forget_all(self) -> None:
        """Ask anew for every key that failed by its own fault."""
        ...


class QueryOrigin:
    """A definition over a database; `name` is the table's. See `Origin`."""

    patience = STALE_PATIENCE

    def __init__(
        self,
        name: str,
        definition: Definition,
        database: Database,
        clock: Callable[[], float],
    ) -> None:
        self.definition = definition
        self.database = database
        self.schema_error = ""
        self._name = name
        self._clock = clock
        self._poison: TTLCache[bytes, Failure] = TTLCache(POISON_KEYS, POISON_MEMORY, timer=clock)
        self._poisoned_until = float("-inf")  # when the last of those keys is forgotten
        self._schema_retry_at = self._refresh_retry_at = 0.0
        # The database keeps us waiting: it has not answered since a stale answer had to stand in
        # for it
        self._silent = False

    def fetch(self, sql_key: bytes, done: Done) -> None:
        """Send the query for a key."""
        self.renew(sql_key, done)

    def renew(self, sql_key: bytes, done: Callable[[Known], None]) -> None:
        """Send the query for a key."""
        if self.schema_error:
            self._schema_retry_at = self._clock() + SCHEMA_RETRY

        def land(result: ResultSet | DatabaseError) -> None:
            done(self._read(sql_key, result))

        try:
            self.database.submit(self.definition.statement(sql_key), land)
        except DatabaseError as error:
            asyncio.get_running_loop().call_soon(land, error)
        except Exception:
            log.exception("table %s: a query could not be sent: a defect of mailmapd", self._name)
            asyncio.get_running_loop().call_soon(land, DatabaseError(DEFECT))

    def refusal(self, sql_key: bytes, now: float) -> Failure | None:
        """Return the failure of the schema, or of this very key, while it is remembered."""
        if self.schema_error and now < self._schema_retry_at:
            return Failure(self.schema_error)
        return self._poison.get(sql_key) if now < self._poisoned_until else None

    def away(self) -> bool:
        """Return whether no host is up, or those that are keep us waiting."""
        return self._silent or not any(host.up for host in self.database.status())

    def lose_patience(self) -> None:
        """Wait for no answer until the database has given one."""
        self._silent = True

    def spared(self, now: float) -> bool:
        """Return whether the database was found away a moment ago."""
        return now < self._refresh_retry_at

    def refused(self) -> Iterable[bytes]:
        """Return the keys that the database cannot evaluate, or whose rows cannot be used."""
        return self._poison

    def forget(self, sql_keys: Iterable[bytes]) -> None:
        """Forget failures of these keys."""
        if self._poison:
            for sql_key in sql_keys:
                self._poison.pop(sql_key, None)

    def forget_all(self) -> None:
        """Forget failures of every key."""
        self._poison.clear()

    def _read(self, sql_key: bytes, result: ResultSet | DatabaseError) -> Known:
        """Return what the database's words say of a key, and learn from them how it does."""
        try:
            if isinstance(result, DatabaseError):
                raise result
            payload = self.definition.payload(result)
        except DatabaseError as error:
            return self._failed(sql_key, error)
        except Exception:
            log.exception("table %s: rows could not be read: a defect of mailmapd", self._name)
            return Failure(DEFECT)
        self._silent = False
        if self.schema_error:
            log.warning("table %s: the query works again", self._name)
            self.schema_error = ""
        return ABSENCE if payload is None else payload

    def _failed(self, sql_key: bytes, error: DatabaseError) -> Failure:
        now = self._clock()
        failure = Failure(str(error), lasts=isinstance(error, DataError))
        if isinstance(error, DataError):
            self._silent = False
            if len(sql_key) <= KEPT_KEY:
                self._poison[sql_key] = failure
                self._poisoned_until = now + POISON_MEMORY
        elif isinstance(error, SchemaError):
            self._silent = False
            if not self.schema_error:
                log.error("table %s: %s", self._name, error)
            self.schema_error = str(error)
            self._schema_retry_at = now + SCHEMA_RETRY
        else:
            self._refresh_retry_at = now + REFRESH_RETRY
        return failure
