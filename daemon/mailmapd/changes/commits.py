"""Commits of a MariaDB: as they are heard, and as it counts them, which says which of them every reader sees."""

from __future__ import annotations

import re
from typing import NamedTuple

from mailmapd.databases.mysql.binlog.session import Committed, Place

ENDS_KEPT = 1000
"""Ends of transactions whose places are remembered, of the last ones."""

_COMMITS = re.compile(r"\s*((COMMIT|ROLLBACK)\s*$|XA\s+(COMMIT|ROLLBACK)\b)", re.IGNORECASE)
"""Statements that MariaDB counts among its commits: no DDL."""

_IN_TWO_PHASES = re.compile(r"\s*XA\b", re.IGNORECASE)

Order = tuple[int, str, int]


def order(place: Place) -> Order:
    """Return what puts places of one server in order: file numbers grow, and become longer when they are used up."""
    return len(place.file), place.file, place.position


class Visible(NamedTuple):
    """The part of a MariaDB's log that every reader sees: all until a place, and a number of the commits heard."""

    until: Order
    commits: int


class CommitCount:
    """Counts the commits of a stream that begins at a place; `shown` is what the server said of them before."""

    def __init__(self, place: Place, shown: Committed | None) -> None:
        self._heard = 0
        self._in_commit = False
        # For the places where something ends, how many commits there were until then
        self._ends: dict[Order, int] = {order(place): 0}
        # How many commits the server had counted before the first of them
        self._counted_before: int | None = None
        self._shown = shown  # by which that is known, once it is heard

    @property
    def due(self) -> int:
        """Return how many commits the server must have counted until all is visible that was heard."""
        return self._heard + self._in_commit

    def begin(self) -> None:
        """Hear the beginning of a transaction."""
        self._in_commit = True

    def end(self, place: Place) -> None:
        """Hear a commit, which ends at a place."""
        self._heard += 1
        self._in_commit = False
        self._note_end(place)

    def end_statement(self, place: Place, sql: str, *, stands_alone: bool) -> None:
        """Hear a statement, which ends at a place.

        No commit follows a statement that stands alone, unless it is the first of two phases.
        """
        if _COMMITS.match(sql):
            self._heard += 1
            self._in_commit = False
        self._note_end(place)
        if stands_alone and not _IN_TWO_PHASES.match(sql):
            self._in_commit = False

    def _note_end(self, place: Place) -> None:
        self._ends[order(place)] = self._heard
        self._find_counted_before(place)
        if len(self._ends) > ENDS_KEPT:
            del self._ends[next(iter(self._ends))]

    def visible(self, committed: Committed, reached: Place) -> Visible:
        """Return what is visible by what a MariaDB says of its commits, where all is heard until a place.

        Its place stands at the end of the last one, unless something else was written to the log meanwhile: the head
        of another file, a checkpoint. Such a place proves nothing, and the count does.
        """
        at = order(committed.place)
        until = self._ends.get(at)
        if until is not None:
            self._count_from(committed.commits - until)
        self._shown = self._shown or committed
        before = self._find_counted_before(reached)
        return Visible(
            (0, "", 0) if until is None else at,
            -1 if before is None else committed.commits - before,
        )

    def _count_from(self, counted: int) -> None:
        """Take a count before the stream, if it is no lower than what is known.

        Where two sessions are told the server's count and place at the same time, a count may come with a later place.
        """
        self._counted_before = max(counted, self._counted_before or 0)

    def _find_counted_before(self, reached: Place) -> int | None:
        """Return how many commits were counted before the stream, once the place that was shown first is heard."""
        shown = self._shown
        if self._counted_before is None and shown is not None:
            at = order(shown.place)
            if at > order(reached):
                return None
            heard = [commits for end, commits in self._ends.items() if end <= at]
            if heard:
                self._count_from(shown.commits - heard[-1])
            else:
                self._shown = None  # it is before the stream
        return self._counted_before
