"""The second level: answers that hosts share through the server, for those that start with nothing.

Whoever has asked the database tells the others what it said, sealed, if a token that was given before the question
still stands. Whoever tells of a change writes a tombstone over the token in the same transaction, and removes the
answer; where all of a table is meant, another mark makes every answer unusable that was made under the one before.

What is found is believed while it is proven that changes are known, by a follower that has heard of everything since
the answer was asked for, on the servers of the host that asked as well as on one's own. So nothing depends on the
server keeping anything: what it throws out, forgets or brings back is a miss.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from mailmapd.changes.touched import Touched
from mailmapd.cluster.exchange import Exchange
from mailmapd.cluster.scripts import TOUCH
from mailmapd.cluster.sealing import Sealer
from mailmapd.cluster.server import Command, Server
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.cluster.shared_origin import SharedOrigin, Trust
from mailmapd.engine.dicts.mismatches import Mismatches
from mailmapd.engine.engine import Engine
from mailmapd.engine.flush import UnknownName
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.table import Table

log = logging.getLogger(__name__)

AT_ONCE = 500  # answers that one script removes

MOST_UNTOLD = (
    1000  # commands that wait for a server that is away; the last one has everything forgotten
)

TOMBSTONE = 30.0
"""Seconds for which nothing is shared of what was touched: longer than a replica lags while all is well."""


class SecondLevel:
    """Shares the answers of tables, by digest of what they ask, between `start` and `close`."""

    def __init__(self, settings: ClusterSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._sealer = Sealer(settings.key, settings.shared)
        self.exchange = Exchange(Server(settings), settings.second_level_max_bytes, clock)
        self.doubts = 0
        self.origins: dict[str, SharedOrigin] = {}
        self._tables: dict[str, Table] = {}
        self._digests: dict[str, str] = {}
        self._engine: Engine | None = None

    def start(self, engine: Engine, digests: Mapping[str, str], trust: Trust) -> None:
        """Stand in front of the origins of every table that may be shared."""
        for name, table in engine.tables.items():
            if name in digests and (self._settings.second_level_passwords or not table.secret):
                self._tables[name] = table
                self._digests[name] = digests[name]
                table.origin = self.origins[name] = SharedOrigin(
                    table,
                    digests[name],
                    exchange=self.exchange,
                    sealer=self._sealer,
                    trust=trust,
                )
        for mismatches in self._mismatches(engine):
            mismatches.forget = partial(self._forget, engine)
        self._engine = engine
        self.exchange.history = trust.history
        self.exchange.start()

    async def close(self) -> None:
        """Leave the tables to their own origins."""
        for name, table in self._tables.items():
            table.origin = self.origins[name].inner
        if self._engine is not None:
            for mismatches in self._mismatches(self._engine):
                mismatches.forget = self._engine.apply
        await self.exchange.close()

    def commands(self, touched: Touched) -> list[Command]:
        """Return the commands that make the second level forget what was touched, by digests of tables."""
        names = [
            name
            for digest, sql_keys in touched.keys.items()
            for sql_key in sql_keys
            for name in self._sealer.answer(digest, sql_key)
        ]
        lasts = round(TOMBSTONE * 1000)
        found: list[Command] = []
        for start in range(0, len(names), 2 * AT_ONCE):
            some = names[start : start + 2 * AT_ONCE]
            # With its text: in a transaction nobody can say that the server has not seen it yet
            found.append(("EVAL", TOUCH.text, len(some), *some, lasts))
        if marks := [self._sealer.mark(digest) for digest in touched.whole | touched.parts.keys()]:
            found.append(("UNLINK", *marks))
        return found

    def _mismatches(self, engine: Engine) -> Iterator[Mismatches]:
        for dict_ in engine.dicts.values():
            if dict_.mismatches is not None and dict_.mismatches.table.name in self._tables:
                yield dict_.mismatches

    def _forget(self, engine: Engine, invalidation: Invalidation) -> int:
        """Forget passwords that have changed though nobody was told: here, and in the second level."""
        keys = {self._digests[invalidation.table]: set(invalidation.keys or ())}
        if self.exchange.untold < MOST_UNTOLD:
            self.exchange.tell(self.commands(Touched(keys=keys)))
        elif self.exchange.untold == MOST_UNTOLD:
            self.doubt()
        return engine.apply(invalidation)

    def doubt(self) -> None:
        """Have everything forgotten: something was touched of which the second level was not told."""
        self.doubts += 1
        if self.exchange.untold <= MOST_UNTOLD:
            self.exchange.tell([("UNLINK", self._sealer.mark())])

    def reconnect(self) -> None:
        """Speak to the server that carries the stream now, and to no other one to which a connection is left."""
        self.exchange.reconnect()

    @contextmanager
    def flushing(self) -> Iterator[None]:
        """Believe nothing while this host flushes and tells the others; if it cannot tell them, doubt everything."""
        with self.exchange.held():
            try:
                yield
            except UnknownName:
                raise  # nothing was flushed
            except BaseException:
                self.doubt()
                raise

    def counts(self) -> Counter[str]:
        """Return what came of questions, over all tables, of answers that were to be shared, and of doubts."""
        total = Counter({"doubts": self.doubts}) + self.exchange.counts
        for origin in self.origins.values():
            total.update(origin.counts)
        return total
