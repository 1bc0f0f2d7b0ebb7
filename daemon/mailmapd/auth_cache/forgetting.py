"""Forgetting in Dovecot's auth cache: after our own entries, at the event and at the fence, and once more later.

Names gather while Dovecot is being asked; what is about more than one user means everything, which costs Dovecot a
quarter of a millisecond for 2 000 entries. Each is said again a second later, because an answer that was given just
before may reach Dovecot's cache just after.

While changes of the dicts' tables are not followed, everything is said every `ttl` of theirs: then Dovecot remembers
for no longer than mailmapd does, whatever its auth_cache_ttl.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from mailmapd.auth_cache.auth_master import LONGEST_NAME, AuthMaster, AuthMasterError
from mailmapd.auth_cache.names import user_of
from mailmapd.engine.dicts.definition import DictDefinition
from mailmapd.engine.engine import Engine
from mailmapd.engine.invalidation import Invalidation
from mailmapd.protocols.tab_escape import escape
from mailmapd.tasks import end_tasks

log = logging.getLogger(__name__)

AGAIN = 1.0  # seconds until everything is said once more
RETRY = 1.0  # seconds until Dovecot is asked again when it did not answer
LOOK = 1.0  # seconds between two looks whether changes are followed
MOST_NAMES = 1000  # names that are said one by one; more are everything
MOST_AT_ONCE = (
    100  # keys of one change whose users are told apart, in a millisecond; more are everything
)


class AuthCache:
    """Has the auth cache of the Dovecot at `path` forget what an engine forgets, between `start` and `close`."""

    def __init__(self, path: str, engine: Callable[[], Engine], clock: Callable[[], float]) -> None:
        self.failure = ""
        self.flushes = 0
        self._master = AuthMaster(path)
        self._engine = engine
        self._clock = clock
        self._names: set[bytes] = set()
        self._everything = True  # what Dovecot remembers from before
        self._last_everything = clock()
        self._wanted = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        loop = asyncio.get_running_loop()
        self._wanted.set()
        self._tasks = [loop.create_task(self._run()), loop.create_task(self._look())]

    async def close(self) -> None:
        """End."""
        await end_tasks(self._tasks)
        self._master.close()

    def forget(self, invalidation: Invalidation) -> None:
        """Have forgotten what was just forgotten here."""
        names = self._users(invalidation)
        if names is not None and not names:
            return
        self._say(names)
        asyncio.get_running_loop().call_later(AGAIN, self._say, names)

    def _say(self, names: frozenset[bytes] | None) -> None:
        if names is None:
            self._everything = True
        else:
            self._names |= names
            self._everything = self._everything or len(self._names) > MOST_NAMES
        if self._everything:
            self._names.clear()
        self._wanted.set()

    def _users(self, invalidation: Invalidation) -> frozenset[bytes] | None:
        """Return the users that an invalidation is about, or None: it may be about any."""
        tables = self._engine().tables
        if not invalidation.table:
            return (
                None
                if any(_is_dovecots(table.definition) for table in tables.values())
                else frozenset()
            )
        table = tables.get(invalidation.table)
        if table is None or not isinstance(table.definition, DictDefinition):
            return frozenset()
        keys = invalidation.keys
        if keys is None or invalidation.unseen or len(keys) > MOST_AT_ONCE:
            return None
        query = table.definition.query
        names = [user_of(query, key) for key in keys]
        if any(name is None or len(escape(name)) > LONGEST_NAME for name in names):
            return None
        return frozenset(name for name in names if name is not None)

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            names = None if self._everything else sorted(self._names)
            self._everything = False
            self._names.clear()
            try:
                if names is None:
                    self._last_everything = self._clock()
                if names is None or names:
                    await self._master.flush(names)
                    self.flushes += 1
                self._set_failure("")
            except AuthMasterError as error:
                self._everything = True
                self._wanted.set()
                self._set_failure(str(error))
                await asyncio.sleep(RETRY)
            except Exception:
                log.exception("dovecot: a defect of mailmapd; its auth cache may be outdated")
                self._everything = True  # of which no name can be the cause
                self._wanted.set()
                self._set_failure("a defect of mailmapd; its log says more")
                await asyncio.sleep(RETRY)

    async def _look(self) -> None:
        """Say everything now and then while nobody hears of changes."""
        while True:
            await asyncio.sleep(LOOK)
            tables = [
                table for table in self._engine().tables.values() if _is_dovecots(table.definition)
            ]
            times = [table.cache.settings.ttl for table in tables if table.watch is None]
            if times and self._clock() - self._last_everything >= min(times):
                self._say(None)

    def _set_failure(self, failure: str) -> None:
        if failure and not self.failure:
            log.warning("dovecot: its auth cache does not forget: %s", failure)
        elif self.failure and not failure:
            log.info("dovecot: its auth cache forgets again")
        self.failure = failure


def _is_dovecots(definition: object) -> bool:
    return isinstance(definition, DictDefinition)
