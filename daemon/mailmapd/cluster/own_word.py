"""This host's word: what its feeds can vouch for, before the other hosts and before itself."""

from __future__ import annotations

from collections.abc import Callable

from mailmapd.changes.following import FollowedDatabase
from mailmapd.cluster.message import Hears
from mailmapd.cluster.part import Part
from mailmapd.cluster.watching import server_digest


class OwnWord:
    """Says what the feeds of a part can vouch for at this moment; `moves` counts those from one server to another."""

    def __init__(self, part: Part, moves: Callable[[], int], clock: Callable[[], float]) -> None:
        self._part = part
        self._moves = moves
        self._clock = clock

    @property
    def databases(self) -> dict[str, FollowedDatabase]:
        """Return the databases that are followed here, by name."""
        following = self._part.following()
        return {} if following is None else following.databases

    def unlogged(self) -> frozenset[str]:
        """Return the tables, by digests, of which an audit of this host has found that their changes are not logged."""
        digests = self._part.digests
        suspended = [table for database in self.databases.values() for table in database.suspended]
        return frozenset(digests[table] for table in suspended if table in digests)

    def hears(self) -> dict[str, Hears]:
        """Return what can be vouched for, by database."""
        found = {name: self.hears_of(database) for name, database in self.databases.items()}
        return {name: hears for name, hears in found.items() if hears is not None}

    def hears_of(self, database: FollowedDatabase) -> Hears | None:
        """Return what can be vouched for of a database, if anything."""
        if not database.lease.holds or not all(feed.identity for feed in database.feeds):
            return None
        digests = self._part.digests
        # What was told at another server was not told at this one
        return Hears(
            database.epoch + self._moves(),
            max(self._clock() - database.last_heard, 0.0),
            frozenset(server_digest(feed.identity) for feed in database.feeds),
            frozenset(digests[table] for table in database.followed if table in digests),
            unlogged=frozenset(digests[table] for table in database.suspended if table in digests),
        )
