"""Settlements: the moment from which all that was heard until now is forgotten for the last time.

Where changes come without a pause something is always pending, and always new: whoever waits for that moment waits for
what was there when he began, and for nothing that came later.
"""

from __future__ import annotations

from mailmapd.changes.fence import Fence
from mailmapd.changes.kept_catalog import KeptCatalog


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
