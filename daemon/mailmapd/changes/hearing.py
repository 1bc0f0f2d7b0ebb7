"""Hearing: the events of one server's streams, one after the other.

    event → progress   how far the log has been heard, and whether it is the one that it should be
          → selection  what it touches: forgotten at once, and pending until it is visible
          → catalog    DDL: tables may be read in another way from now on

A table that changes in bulk has all of its readers forgotten, and the rest of its rows in that transaction is not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from mailmapd.changes.fence import Fence, Pending
from mailmapd.changes.kept_catalog import KeptCatalog
from mailmapd.changes.progress import Progress
from mailmapd.changes.selection import Asking
from mailmapd.changes.told import Told
from mailmapd.changes.touched import Touched
from mailmapd.databases.mysql.binlog.events import (
    Event,
    NotUnderstood,
    RowsChanged,
    RowsUnreadable,
    StatementLogged,
    TransactionEnded,
)
from mailmapd.databases.mysql.binlog.session import Place

BULK = 1000
"""Changed rows of a table in one transaction, above which all of its readers are forgotten."""

_KINDS: Mapping[type, str] = {
    RowsChanged: "row",
    RowsUnreadable: "unknown",
    StatementLogged: "statement",
    NotUnderstood: "unknown",
}


class Hearing:
    """Takes the events of streams. `skip` passes over the rest of a table's rows in the transaction.

    `by_source` says that the log is another server's, which the one that is asked replicates from.
    """

    def __init__(
        self, told: Told, catalog: KeptCatalog, fence: Fence, skip: Callable[[str, str], None]
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.last_change: float | None = None
        self.progress = Progress(Place(), is_mariadb=True)
        self.by_source = False
        self._told = told
        self._catalog = catalog
        self._fence = fence
        self._skip = skip
        self._rows: Counter[tuple[str, str]] = Counter()

    def begin(self, progress: Progress) -> None:
        """Begin with another stream."""
        self.progress = progress
        self._rows.clear()
        self._fence.begin(progress.place)

    def forget_progress(self) -> None:
        """Have heard nothing so far that could be gone on from."""
        self.progress = Progress(Place(), is_mariadb=True)
        self._fence.clear()

    def wanted(self, schema: str, table: str, count: int) -> tuple[int, ...] | None:
        """Return which of the columns of a table are to be read, or None where no row of it is."""
        if self._rows[schema, table] > BULK:
            return None  # its readers are forgotten at the end of the transaction anyway
        return self._catalog.readers.wanted(schema, table, count)

    def take(self, events: Iterable[Event], now: float) -> bool:
        """Forget at once what events touch, and again behind the fence; return whether they touch anything.

        Behind a fault of the progress nothing is taken. Raises GtidError.
        """
        heard = Touched()
        selection = self._catalog.selection
        for event in events:
            self.progress.add(event)
            if self.progress.fault:
                break
            if self.progress.is_proven:
                self._fence.arrive(self.progress.place, self.progress.commits)
            if self.progress.repeats:
                continue
            kind = _KINDS.get(type(event))
            if kind is not None:
                self.counts[kind] += len(event.changes) if isinstance(event, RowsChanged) else 1
            if isinstance(event, RowsChanged):
                self.last_change = now
                self._count(event.schema, event.table, len(event.changes), heard)
            if selection.add(event, heard):
                self._catalog.alter()
            if isinstance(event, TransactionEnded | StatementLogged):
                self._rows.clear()
        asking = list(selection.asking)
        selection.asking.clear()
        if heard or asking:
            self._forget_twice(heard, asking)
        self._fence.is_open = bool(self._rows)
        self._fence.tell_visible()
        return bool(heard or asking)

    def read_otherwise(self, touched: Touched) -> None:
        """Forget tables that are read in another way now, and again when what was heard so far is visible."""
        self._told.forget(touched)
        if touched:
            self._fence.add(Pending(self.progress.place, touched, [], self.progress.commits))

    def _forget_twice(self, heard: Touched, asking: list[Asking]) -> None:
        """Forget what was heard now, and behind the fence."""
        place = self.progress.place
        if self.by_source:
            place = Place(gtid=self.progress.reached)
            # The replica does not have the rows yet by which it would find keys
            for question in asking:
                heard.add_table(question.reader.table)
            asking = []
        self._told.forget(heard)
        self._fence.add(Pending(place, heard, asking, self.progress.commits))

    def _count(self, schema: str, table: str, rows: int, heard: Touched) -> None:
        """Forget all readers of a table that changes in bulk, and of its children; pass over the rest of its rows."""
        name = (schema, table)
        readers = self._catalog.readers
        self._rows[name] += rows
        if self._rows[name] > BULK:
            for reached in (name, *readers.children.get(name, ())):
                for reader in readers.tables_of(reached):
                    heard.add_table(reader)
            self._skip(schema, table)
