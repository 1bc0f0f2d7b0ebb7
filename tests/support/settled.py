"""Settled: nothing is left to be done of what was heard so far, as tests wait for, and nobody else."""

from __future__ import annotations

from mailmapd.changes.feed import Feed
from mailmapd.changes.file_feed import FileFeed
from mailmapd.changes.following import FollowedDatabase
from mailmapd.cluster.exchange import Exchange


def is_settled(database: FollowedDatabase) -> bool:
    """Return whether nothing is left to be forgotten."""
    return not database._forgetting.sweeps and all(map(feed_is_settled, database.feeds))


def feed_is_settled(feed: Feed | FileFeed) -> bool:
    """Return whether all that a feed has heard of is proven visible, and forgotten for the last time."""
    if isinstance(feed, FileFeed):
        return feed._noticed_at == float("inf")
    is_clear = feed._fence.has_passed(feed._fence.added)
    return is_clear and not (feed._catalog.is_old or feed._events.is_set())


def is_busy(exchange: Exchange) -> bool:
    """Return whether something that is to be told to the second level was not told yet."""
    return bool(exchange._fills or exchange._commands or exchange._unusable or exchange._telling)
