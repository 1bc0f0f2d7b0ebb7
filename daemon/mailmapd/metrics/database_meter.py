"""Counts what databases do, as plain numbers by database and host."""

from __future__ import annotations

from collections import Counter

from mailmapd.engine.meters import Histogram


class DatabaseMeter:
    """A `DatabaseObserver` that counts queries and their durations."""

    def __init__(self) -> None:
        self.queries: Counter[tuple[str, str, str]] = Counter()
        self.durations: dict[tuple[str, str], Histogram] = {}

    def query_finished(self, database: str, host: str, outcome: str, seconds: float) -> None:
        """Count one query and, if it reached a host, its duration."""
        self.queries[database, host, outcome] += 1
        if host:
            durations = self.durations.get((database, host))
            if durations is None:
                durations = self.durations[database, host] = Histogram()
            durations.observe(seconds)

    def host_state(self, database: str, host: str, up: bool) -> None:
        """Do nothing: the state is read from the database when somebody looks."""
