"""The lease: for how long what is known of followed tables may be believed.

It holds while every server that answers is heard of: an event of its log, or a heartbeat, within `PATIENCE`. What is
stored while it holds stays until a change is heard of, for `watched_ttl` at most, because nothing proves what no log
shows (``sql_log_bin = 0``, a filter). When it ends, the ordinary times count from the last proof.
"""

from __future__ import annotations

import re

PATIENCE = 3.0
"""Seconds without a word of a server after which nothing is proven any more; it sends a heartbeat each second."""

_PART = rb"(?:[\x21-\x40\x5b-\x7e](?:[ \x21-\x40\x5b-\x7e]*[\x21-\x40\x5b-\x7e])?)?"
_FOLLOWED_KEY = re.compile(rb"%b(?:\0%b)*\Z" % (_PART, _PART))
"""Keys whose equality is proven: printable ASCII in lower case, without blanks at the ends of a part."""


class Lease:
    """Holds while one database's changes are known, by the servers that are followed."""

    def __init__(self, ttl: float, negative_ttl: float) -> None:
        self._ttl = ttl
        self._negative_ttl = negative_ttl
        self.holds = False

    def lifetime(self, sql_key: bytes, absent: bool) -> float | None:
        """Return for how many seconds an answer that was fetched just now is good, or None: the ordinary time."""
        if not self.holds or not _FOLLOWED_KEY.match(sql_key):
            return None
        return self._negative_ttl if absent else self._ttl
