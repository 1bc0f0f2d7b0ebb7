"""Settlements: the moment from which all that was heard until now is forgotten for the last time.

Where changes come without a pause something is always pending, and always new: whoever waits for that moment waits for
what was there when he began, and for nothing that came later.
"""

from __future__ import annotations

from collections.abc import Callable

from mailmapd.changes.beginning import Beginning, NotProven
from mailmapd.changes.fence import Fence
from mailmapd.changes.kept_catalog import KeptCatalog
from mailmapd.changes.progress import Mark
from mailmapd.changes.told import Told

SETTLE = 1.0  # seconds between two looks how far all is settled, while changes come without a pause


class Settlement:
    """Begins with what was heard when it is made."""

    def __init__(self, catalog: KeptCatalog, fence: Fence) -> None:
        self._catalog = catalog
        self._fence = fence
        self._altered = catalog.alterations
        self._added: int | None = None  # to the fence, when the catalog had been read

    @property
    def is_done(self) -> bool:
        """Return whether nothing of it is left to be forgotten."""
        if self._added is None:
            if not self._catalog.has_read(self._altered):
                return False
            self._added = self._fence.added  # with the tables that are read otherwise
        return self._fence.has_passed(self._added)


class Arrival:
    """The moment from which all is known that readers of a host saw when a stream began: heard, forgotten and swept."""

    def __init__(
        self, host: str, beginning: Beginning, catalog: KeptCatalog, fence: Fence, told: Told
    ) -> None:
        self._host = host
        self._progress, self._shown = beginning
        self._catalog = catalog
        self._fence = fence
        self._told = told
        self._heard: Settlement | None = None
        self._sweeps: int | None = None  # that were asked for when all that was heard was forgotten

    @property
    def is_sweeping(self) -> bool:
        """Return whether nothing is left but to look for keys."""
        return self._sweeps is not None

    def is_there(self) -> bool:
        """Return whether it is now. Raises NotProven."""
        progress = self._progress
        if self._heard is None:
            if not (progress.is_opened and progress.has_heard(self._shown)):
                return False
            if not progress.is_proven:
                raise NotProven(f"{self._host}: what was heard before is not in its log")
            self._heard = Settlement(self._catalog, self._fence)
        if self._sweeps is None:
            if not self._heard.is_done:
                return False
            self._sweeps = self._told.sweeps_asked
        return self._told.has_swept(self._sweeps)


class SettledMark:
    """Takes marks, and knows the last one until which all is settled: `mark`."""

    def __init__(self, catalog: KeptCatalog, fence: Fence, clock: Callable[[], float]) -> None:
        self.mark: Mark | None = None
        self._catalog = catalog
        self._fence = fence
        self._clock = clock
        self._next: tuple[Mark, Settlement] | None = None
        self._looked = 0.0

    @property
    def is_due(self) -> bool:
        """Return whether nobody has looked for a while."""
        return self._clock() - self._looked > SETTLE

    def begin(self) -> None:
        """Take marks of another stream from now on."""
        self._next = None

    def forget(self) -> None:
        """Have nothing settled."""
        self.mark = self._next = None

    def look(self, take: Callable[[], Mark | None]) -> None:
        """See whether all is settled until the mark that was taken last, or until one of now."""
        self._looked = self._clock()
        for _ in range(2):
            if self._next is None:
                mark = take()
                if mark is None:
                    return
                self._next = mark, Settlement(self._catalog, self._fence)
            mark, settlement = self._next
            if not settlement.is_done:
                return
            self.mark, self._next = mark, None
