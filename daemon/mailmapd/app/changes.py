"""Following changes, as a part of the process: begun once lookups are served, begun anew with each configuration."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mailmapd.engine.table import Table
from mailmapd.model.legible import legible
from mailmapd.plan.assembly import Assembled
from mailmapd.stats.snapshot import FeedState

if TYPE_CHECKING:
    from mailmapd.changes.feed import Feed
    from mailmapd.changes.file_feed import FileFeed
    from mailmapd.changes.following import FollowedDatabase, Following, Hearer, Kept

log = logging.getLogger(__name__)


class Changes:
    """Follows the logs of the databases of the engine that is in use; `hearer` is told what that brings."""

    def __init__(self, clock: Callable[[], float], hearer: Hearer) -> None:
        self._clock = clock
        self._hearer = hearer
        self._following: Following | None = None
        # What was counted of each host under configurations before
        self._counted: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._lock = asyncio.Lock()

    async def begin(self, assembled: Assembled, saved: Mapping[str, Any] | None = None) -> None:
        """Follow the databases of an engine, and those of the one before no more.

        What was followed before goes on from where it was, or from what was `saved` by an earlier process.
        """
        async with self._lock:
            kept = await self._end()
            followable = {
                name: (settings, assembled.plan.changes[name])
                for name, settings in assembled.plan.databases.items()
                if assembled.plan.changes[name].follow != "no"
            }
            if not followable:
                return
            # In a thread, because it takes a while in which lookups are answered.
            await asyncio.to_thread(importlib.import_module, "mailmapd.changes.following")
            from mailmapd.changes.following import Following, Kept

            for name, value in (saved or {}).items():
                try:
                    kept.setdefault(name, Kept.decode(value))
                except ValueError as error:
                    log.warning("changes of database %s: %s", name, error)
            self._following = Following(
                assembled.engine, followable, self._clock, self._hearer, kept
            )
            self._following.start()

    async def keep(self) -> dict[str, Any]:
        """Return what a later process goes on from, by database."""
        if self._following is None:
            return {}
        return {name: kept.encode() for name, kept in (await self._following.kept()).items()}

    async def close(self) -> None:
        """Follow nothing any more."""
        async with self._lock:
            await self._end()

    @property
    def following(self) -> Following | None:
        """Return what is followed now."""
        return self._following

    def problems(self) -> list[str]:
        """Return what keeps databases from being followed that are to be."""
        if self._following is None:
            return []
        return [
            f"database {database.name}: changes of {feed.host} are not followed: {feed.reason}"
            for database in self._following.databases.values()
            for feed in database.feeds
            if database.is_demanded and not feed.alive
        ]

    def why_not(self, table: Table, sql_key: bytes) -> str:
        """Return why a key of a table of the engine is not followed; nothing if it is."""
        if table.watch is not None:
            proven = table.watch.lifetime(sql_key, absent=False) is not None
            return "" if proven else "the key is not printable ASCII in lower case"
        following = self._following
        for database in following.databases.values() if following else ():
            if table.database.name != database.name:
                continue
            for feed in database.feeds:
                reason = (feed.readers.not_followed | database.suspended).get(
                    table.name, feed.reason
                )
                if reason:
                    return legible(reason)
        return "changes of its database are not followed"

    def states(self) -> list[FeedState]:
        """Return how each server is followed."""
        if self._following is None:
            return []
        return [
            self._state(database, feed)
            for database in self._following.databases.values()
            for feed in database.feeds
        ]

    def _state(self, database: FollowedDatabase, feed: Feed | FileFeed) -> FeedState:
        now = self._clock()
        followed = feed.readers.followed - database.suspended.keys() if feed.alive else set()
        not_followed = feed.readers.not_followed | database.suspended
        return {
            "database": database.name,
            "host": feed.host,
            "following": feed.alive,
            "reason": legible(feed.reason),
            "silence": now - feed.last_heard if feed.alive else 0.0,
            "last_change": None if feed.last_change is None else now - feed.last_change,
            "counts": dict(feed.counts + self._counted[database.name, feed.host]),
            "followed": sorted(followed),
            "not_followed": {table: legible(reason) for table, reason in not_followed.items()},
        }

    async def _end(self) -> dict[str, Kept]:
        """Follow nothing; return what to go on from."""
        following, self._following = self._following, None
        if following is None:
            return {}
        kept = await following.kept()
        await following.close()
        for database in following.databases.values():
            for feed in database.feeds:
                self._counted[database.name, feed.host] += feed.counts
        return kept
