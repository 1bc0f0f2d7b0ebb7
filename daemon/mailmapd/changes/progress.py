"""Progress: how far a server's log has been heard, and what proves later that a log is the same until there.

A mark stands between two transactions. Numbers alone prove nothing: after RESET, from an old copy, or by another
server, the same numbers stand for other transactions. So a mark has what only the same history shows again:

    MariaDB    the file, when it was begun, and the position in it; for a server that has taken the other one's place,
               the last transactions by identifiers and times, which have to come again
    MySQL      every transaction by its identifier, and the last one's time: it is asked for once more

What was heard before and comes again has been forgotten already, and is passed over.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from mailmapd.changes.commits import CommitCount, Visible, order
from mailmapd.databases.mysql.binlog.events import (
    Event,
    Heartbeat,
    LogOpened,
    LogRotated,
    StatementLogged,
    TransactionBegun,
    TransactionEnded,
    TransactionPrepared,
)
from mailmapd.databases.mysql.binlog.gtids import GtidSet, GtidState
from mailmapd.databases.mysql.binlog.session import Committed, Place

TRAIL = 8
"""The last transactions that have to come again on a server that has taken another one's place."""

_ENDS = re.compile(r"\s*(COMMIT|ROLLBACK)\s*$", re.IGNORECASE)
_BEGINS = re.compile(r"\s*(BEGIN|XA\s+(START|BEGIN))\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment between two transactions of a server's log, and what proves that a log is the same until there.

    `place.gtid` are all transactions until there, `trail` are the last of them with their times, and `before` those
    without these. `created` is the time of the file that `place` is in.
    """

    identity: tuple[str, ...]
    place: Place
    created: int = 0
    trail: tuple[tuple[str, int], ...] = ()
    before: str = ""

    @property
    def is_known_elsewhere(self) -> bool:
        """Return whether the trail would tell this history from another one with the same numbers, at any server.

        MariaDB's times are seconds: two servers may have done something in the same one.
        """
        return len({committed for _, committed in self.trail}) > 1

    def encode(self) -> dict[str, Any]:
        """Return the value in terms of JSON."""
        return {
            "identity": list(self.identity),
            "file": self.place.file,
            "position": self.place.position,
            "gtid": self.place.gtid,
            "created": self.created,
            "trail": [list(transaction) for transaction in self.trail],
            "before": self.before,
        }

    @classmethod
    def decode(cls, value: Any) -> Mark:
        """Return the value from what `encode` gave. Raises ValueError for anything else."""
        try:
            trail = tuple((gtid, committed) for gtid, committed in value["trail"])
            texts = [value["file"], value["gtid"], value["before"], *value["identity"]]
            texts += [gtid for gtid, _ in trail]
            numbers = [value["position"], value["created"], *[committed for _, committed in trail]]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no place in a log: {error}") from None
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("no place in a log: a text is none")
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("no place in a log: a number is none")
        place = Place(value["file"], value["position"], value["gtid"])
        return cls(tuple(value["identity"]), place, value["created"], trail, value["before"])


class Progress:
    """Takes the events of one stream. `place` is where the last one ended, with its transaction.

    `is_opened` says that the log has said when it was begun, as it does first. `repeats` says that what comes now was
    heard before. `is_proven` says that nothing has to be shown any more, and
    `fault` why the log is not the one that it should be.
    """

    def __init__(self, place: Place, *, is_mariadb: bool, shown: Committed | None = None) -> None:
        self.place = place
        self.repeats = False
        self.is_opened = False
        self.is_proven = True
        self.fault = ""
        self._is_mariadb = is_mariadb
        self._expected: Mark | None = None
        self._by_file = False  # the file is the proof
        self._awaited: dict[str, int] = {}  # transactions that are to come again, with their times
        self._known = GtidState()  # MariaDB: what was heard until the mark
        self._state = GtidState()
        self._set = GtidSet()
        if is_mariadb:
            self._state = GtidState(place.gtid)
        else:
            self._set = GtidSet(place.gtid)
        self._boundary = place
        self._created = 0
        self._begun: TransactionBegun | None = None
        self._holds = False  # MySQL: what has begun is not one statement
        self._trail: deque[tuple[str, int]] = deque()
        self._before = GtidState()  # MariaDB: the state before these
        self._count = CommitCount(place, shown)  # a MariaDB's

    @classmethod
    def after(
        cls, mark: Mark, *, is_mariadb: bool, same_server: bool, shown: Committed | None = None
    ) -> Progress:
        """Return the progress of a stream that goes on from a mark. Raises GtidError."""
        if not is_mariadb:
            place = Place(gtid=mark.before)
        elif same_server:
            place = mark.place
        else:
            place = Place(gtid=mark.before)
        new = cls(place, is_mariadb=is_mariadb, shown=shown)
        new.is_proven = False
        new._expected = mark
        if is_mariadb:
            new._known = GtidState(mark.place.gtid)
        if is_mariadb and same_server:
            new._by_file = True
            new._trail.extend(mark.trail)
            new._before = GtidState(mark.before)
        else:
            new._awaited = dict(mark.trail)
        return new

    @property
    def reached(self) -> str:
        """Return all transactions that were heard, with the one that has begun."""
        begun = self._begun
        if self._is_mariadb:
            state = GtidState(str(self._state))
            if begun is not None:
                state.add(begun.gtid)
            return str(state)
        gtids = GtidSet(str(self._set))
        if begun is not None:
            gtids.add(begun.gtid)
        return str(gtids)

    @property
    def commits(self) -> int:
        """Return how many commits a MariaDB must have counted until all is visible that was heard."""
        return self._count.due

    def visible(self, committed: Committed) -> Visible:
        """Return what is visible by what a MariaDB says of its commits."""
        return self._count.visible(committed, self.place)

    def has_heard(self, shown: Place) -> bool:
        """Return whether everything that a server showed has been heard."""
        if shown.file:
            return order(shown) <= order(self.place)
        if self._is_mariadb:
            return GtidState(shown.gtid) <= self._state
        return GtidSet(shown.gtid) <= self._set

    def add(self, event: Event) -> None:
        """Take the next event. Raises GtidError."""
        match event:
            case TransactionBegun(gtid, position, _):
                self._finish()
                self._begun, self._holds = event, False
                self._count.begin()
                self._place(position, gtid)
                self._compare(event)
            case LogRotated(file, position):
                self._finish()
                if file != self.place.file:
                    self._created = 0
                self.place = Place(file, position, self.place.gtid)
                self._set_boundary()
            case LogOpened(created):
                self._open(created)
            case Heartbeat(position):
                self._place(max(position, self.place.position))  # it comes at the end of the log
                self._finish()
                self._set_boundary()
            case TransactionEnded(position) | TransactionPrepared(position):
                self._place(position)
                if self._is_mariadb:
                    self._count.end(self.place)
                self._finish()
            case StatementLogged(_, sql, position):
                self._place(position)
                if self._is_mariadb:
                    alone = self._begun is not None and self._begun.stands_alone
                    self._count.end_statement(self.place, sql, stands_alone=alone)
                self._holds = self._holds or bool(_BEGINS.match(sql))
                if _ENDS.match(sql) or not (self._holds or self._is_mariadb):
                    self._finish()
            case _:
                self._place(getattr(event, "position", 0))

    def mark(self, identity: tuple[str, ...]) -> Mark | None:
        """Return the last moment between two transactions, or None while nothing would prove it later."""
        if not self.is_proven or self.fault:
            return None
        if self._is_mariadb:
            place = replace(self._boundary, gtid=str(self._state))
            mark = Mark(identity, place, self._created, tuple(self._trail), str(self._before))
            return mark if self._created and place.file else None
        if not self._trail or not self._trail[-1][1]:
            return None
        last = self._trail[-1]
        before = str(self._set.without(last[0]))
        return Mark(identity, Place(gtid=str(self._set)), 0, (last,), before)

    def _place(self, position: int, gtid: str | None = None) -> None:
        """Be at a position of the same file; 0 stands for no new one."""
        self.place = Place(
            self.place.file,
            position or self.place.position,
            self.place.gtid if gtid is None else gtid,
        )

    def _set_boundary(self) -> None:
        if self._created:
            self._boundary = self.place

    def _finish(self) -> None:
        """Take what has begun for complete."""
        begun, self._begun = self._begun, None
        self.repeats = False
        if begun is None:
            return
        if self._is_mariadb:
            if not self._trail:
                self._before = GtidState(str(self._state))
            self._state.add(begun.gtid)
        else:
            self._set.add(begun.gtid)
        self._trail.append((begun.gtid, begun.committed))
        if len(self._trail) > TRAIL:
            gtid, _ = self._trail.popleft()
            if self._is_mariadb:
                self._before.add(gtid)
        self._set_boundary()

    def _open(self, created: int) -> None:
        """Hear when the file was begun, which is the proof where reading goes on in the same one."""
        self.is_opened = True
        if self._by_file and self._expected is not None:
            if created != self._expected.created:
                self.fault = "its log was begun anew"
            self._prove()
        self._created = created
        if self._begun is None:
            self._boundary = self.place

    def _compare(self, event: TransactionBegun) -> None:
        """See whether a transaction is one of those that were heard before, which is the proof elsewhere."""
        if self._expected is None or self._by_file:
            return
        committed = self._awaited.pop(event.gtid, None)
        self.repeats = committed is not None
        if self._is_mariadb:
            self.repeats = GtidState(event.gtid) <= self._known
        if committed and event.committed != committed:
            self.fault = "its transactions are others, with the same numbers"
        if not self._awaited:
            self._prove()

    def _prove(self) -> None:
        self._expected = None
        self.is_proven = True
