"""Beliefs: which answers this host may take for true that it has not asked for itself since they may have changed.

Those that others have put into the second level (see `Trust`), and those of a memory that was written down and loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mailmapd.changes.following import FollowedDatabase
from mailmapd.cluster.coverage import Coverage
from mailmapd.cluster.own_word import OwnWord
from mailmapd.cluster.part import Part
from mailmapd.cluster.publisher import Publisher
from mailmapd.cluster.reader import Position, order
from mailmapd.cluster.shared_answer import Place, SharedAnswer
from mailmapd.cluster.watching import Watching


class Beliefs:
    """Knows what may be believed now. `here` is the last message that was read, or None while nothing is proven.

    `history` is that of the server that carries the stream.
    """

    def __init__(
        self,
        part: Part,
        word: OwnWord,
        *,
        coverage: Coverage,
        watching: Watching,
        publisher: Publisher,
        here: Callable[[], Position | None],
        history: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self.history = history
        self._part = part
        self._word = word
        self._coverage = coverage
        self._watching = watching
        self._publisher = publisher
        self._here = here
        self._clock = clock
        self._is_loaded = False
        # What was loaded, as long as it is not settled: the servers that were asked, by tables' digests
        self._in_doubt: dict[str, frozenset[str]] = {}

    def doubt(self, asked: Mapping[str, frozenset[str]]) -> None:
        """Have what is loaded in doubt, of tables by digests, until it is settled. These servers were asked."""
        self._in_doubt = dict(asked)

    def loaded(self) -> None:
        """Believe what was loaded as soon as that is proven: all of it is there."""
        self._is_loaded = True

    def settle(self) -> None:
        """Believe what was loaded of tables of which every change was told since it was written down."""
        if self._is_loaded and self._in_doubt:
            for table in self._watching.settle(self._in_doubt):
                self._in_doubt.pop(self._part.digests[table.name], None)
                table.cache.settle(believed=True)

    def give_up(self) -> None:
        """Believe nothing that was loaded, from now on."""
        self._in_doubt.clear()

    def may_ask(self, table: str, sql_key: bytes) -> bool:
        """Return whether this host knows of no change of a key that it has not told yet. See `Trust`."""
        return not self._publisher.is_untold(self._part.digests[table], sql_key)

    def place(self, table: str) -> Place | None:
        """Return where this host stands: the last message it has read, and which servers answer a table's questions."""
        servers, position = self._watching.servers(table), self._here()
        if servers is None or position is None or not position.history:
            return None
        return Place(order(position.last_id), position.history, servers)

    def believes(self, table: str, answer: SharedAnswer) -> bool:
        """Return whether all that changed since an answer was asked for elsewhere was told, and will be."""
        position = self._here()
        if position is None or not answer.is_of(position.history):
            return False
        for name, database in self._word.databases.items():
            if self._part.engine.tables[table].watch is database.lease:
                return self._follows_since(name, database, table, answer)
        return self._watching.believes(table, answer)

    def _follows_since(
        self, name: str, database: FollowedDatabase, table: str, answer: SharedAnswer
    ) -> bool:
        """Return whether this host, or another one before it, has told every change since an answer was asked for."""
        hears = self._word.hears_of(database)
        if hears is None or not hears.servers >= answer.servers:
            return False
        began, moment = self._publisher.began(name, hears)
        if not began:
            return False
        if order(began) <= answer.last_id:
            return True
        digest = self._part.digests[table]
        before = self._coverage.reaching_back(hears.servers, digest, answer.last_id, self._clock())
        return any(source.proven >= moment for source in before)
