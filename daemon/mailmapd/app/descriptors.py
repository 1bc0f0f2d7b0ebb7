"""File descriptors, which every connection takes one of.

A login shell allows 1024 where the kernel would allow far more, see getrlimit(2).
"""

from __future__ import annotations

import logging
import resource
from contextlib import suppress

from mailmapd.config.schema import Config

log = logging.getLogger(__name__)

RESERVE = (
    64  # descriptors for everything that is no client: log, event loop, listeners, files being read
)


def raise_descriptor_limit(config: Config) -> None:
    """Raise the soft limit to the hard one.

    Say so when even that is too little for all the connections that the configuration allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a sandbox that forbids it leaves the soft limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    wanted = config.limits.max_connections + RESERVE
    if resource.RLIM_INFINITY != soft < wanted:
        log.warning(
            "only %d files may be open, too few for limits.max_connections (%d): raise LimitNOFILE",
            soft,
            wanted - RESERVE,
        )
