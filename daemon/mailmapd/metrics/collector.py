"""The Prometheus collector: reads the daemon's own counters when somebody scrapes, and costs lookups nothing.

Labels hold configured names and fixed words, never anything a client sent.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import accumulate
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mailmapd import __version__
from mailmapd.cache.memory import Memory
from mailmapd.engine.engine import Engine
from mailmapd.engine.meters import BUCKETS, RESULTS, ClientMeter, Histogram, LookupMeter
from mailmapd.engine.outcome import Source
from mailmapd.engine.unknown_names import UnknownNames
from mailmapd.metrics.changes import auth_cache, changes
from mailmapd.metrics.database_meter import DatabaseMeter
from mailmapd.metrics.fleet import fleet
from mailmapd.stats.snapshot import ClusterState, FeedState


class ListenerState(Protocol):
    """A listener, as the collector reads it."""

    @property
    def name(self) -> str:
        """Return the configured name."""
        ...

    @property
    def connections(self) -> AbstractSet[object]:
        """Return the connections that are open."""
        ...


class Observed(Protocol):
    """The daemon as the collector sees it."""

    @property
    def engine(self) -> Engine:
        """Return the engine in use."""
        ...

    @property
    def listeners(self) -> Iterable[ListenerState]:
        """Return the listeners that are open."""
        ...

    @property
    def memory(self) -> Memory:
        """Return the memory of everything remembered."""
        ...

    @property
    def client_meters(self) -> Mapping[str, ClientMeter]:
        """Return the meters of clients by listener, those of listeners that are gone included."""
        ...

    @property
    def unknown(self) -> Mapping[str, UnknownNames]:
        """Return the unknown maps and dicts that clients asked for, by listener."""
        ...

    def reached(self, database: str) -> bool:
        """Return whether a database has answered since the daemon knows it."""
        ...

    @property
    def meters(self) -> Iterable[LookupMeter]:
        """Return the meters of every listener and map."""
        ...

    @property
    def database_meter(self) -> DatabaseMeter:
        """Return the meter of all databases."""
        ...

    def feeds(self) -> list[FeedState]:
        """Return how the changes of each server are followed."""
        ...

    def cluster_state(self) -> ClusterState | None:
        """Return how this host hears the others, or None without a fleet."""
        ...

    def auth_cache(self) -> tuple[bool, int] | None:
        """Return whether Dovecot's auth cache can be told to forget, and how often it was."""
        ...

    @property
    def last_reload(self) -> float:
        """Return when the configuration was last read with success, in seconds since the epoch."""
        ...

    @property
    def reload_failed(self) -> bool:
        """Return whether the last reload was refused, so that the configuration before it is in force."""
        ...


class MailmapdCollector(Collector):
    """Turns the daemon's counters into metric families."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family of mailmapd; a long one in several pieces, one behind the other."""
        yield from self._lookups()
        yield from self._caches()
        yield from self._databases()
        observed = self._observed
        yield from changes(observed.feeds(), observed.engine.tables)
        yield from fleet(observed.cluster_state())
        yield from auth_cache(observed.auth_cache())
        yield from self._listeners()
        yield GaugeMetricFamily(
            "mailmapd_config_last_reload_success_timestamp_seconds",
            "When the configuration was last read with success.",
            self._observed.last_reload,
        )
        yield GaugeMetricFamily(
            "mailmapd_config_last_reload_successful",
            "Whether the last attempt to read the configuration succeeded.",
            int(not self._observed.reload_failed),
        )
        build = GaugeMetricFamily(
            "mailmapd_build_info",
            "Always 1; the labels tell the versions.",
            labels=["version", "python"],
        )
        build.add_metric([__version__, platform.python_version()], 1)
        yield build

    def _lookups(self) -> Iterator[Metric]:
        lookups = CounterMetricFamily(
            "mailmapd_lookups", "Lookups answered.", labels=["listener", "map", "result"]
        )
        durations: dict[tuple[str, Source], Histogram] = {}
        for meter in self._observed.meters:
            if not meter.name and not any(meter.results):
                continue  # nobody asked for a map that does not exist
            for result, count in zip(RESULTS, meter.results, strict=True):
                lookups.add_metric([meter.listener, meter.name, result], count)
            for source, histogram in meter.latencies.items():
                _add(durations.setdefault((meter.name, source), Histogram()), histogram)
        yield lookups
        yield from _histograms(
            "mailmapd_lookup_duration_seconds",
            "Time from a decoded lookup to its answer, by where the answer came from.",
            ["map", "source"],
            {
                (name, source.name.lower()): duration
                for (name, source), duration in durations.items()
            },
        )
        avoided = CounterMetricFamily(
            "mailmapd_queries_avoided",
            "SELECTs that Postfix or Dovecot would have sent and memory answered.",
            labels=["map"],
        )
        engine = self._observed.engine
        for name, map_of_postfix in engine.maps.items():
            avoided.add_metric([name], map_of_postfix.avoided)
        for name, dict_of_dovecot in engine.dicts.items():
            avoided.add_metric([name], dict_of_dovecot.avoided)
        yield avoided
        mismatches = CounterMetricFamily(
            "mailmapd_mismatches",
            "Questions that Dovecot puts after a password did not match, by how they end.",
            labels=["dict", "result"],
        )
        for name, dict_of_dovecot in engine.dicts.items():
            if dict_of_dovecot.mismatches is not None:
                for result, count in dict_of_dovecot.mismatches.counts.items():
                    mismatches.add_metric([name, result], count)
        yield mismatches

    def _caches(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "mailmapd_cache_requests",
            "Questions to a table's cache, by outcome.",
            labels=["table", "outcome"],
        )
        entries = GaugeMetricFamily(
            "mailmapd_cache_entries", "Entries in a table's cache.", labels=["table", "kind"]
        )
        evictions = CounterMetricFamily(
            "mailmapd_cache_evictions",
            "Entries dropped because a budget was full.",
            labels=["table", "kind"],
        )
        for name, table in self._observed.engine.tables.items():
            for outcome in ("hit", "negative_hit", "stale", "coalesced", "miss"):
                requests.add_metric([name, outcome], getattr(table, _OUTCOME_ATTRIBUTES[outcome]))
            for kind, budget in (
                ("positive", table.cache.rows),
                ("negative", table.cache.absences),
            ):
                entries.add_metric([name, kind], len(budget))
                evictions.add_metric([name, kind], budget.evictions)
        yield from (requests, entries, evictions)
        memory = self._observed.memory
        held = GaugeMetricFamily(
            "mailmapd_cache_bytes", "Memory of what is remembered.", labels=["kind"]
        )
        for kind, used in memory.used.items():
            held.add_metric([kind], used)
        yield held
        yield GaugeMetricFamily(
            "mailmapd_cache_max_bytes",
            "Memory that may be remembered, over all kinds.",
            memory.max_bytes,
        )

    def _databases(self) -> Iterator[Metric]:
        queries = CounterMetricFamily(
            "mailmapd_database_queries",
            "Queries sent or refused, by outcome.",
            labels=["database", "host", "outcome"],
        )
        for labels, count in self._observed.database_meter.queries.items():
            queries.add_metric(labels, count)
        yield queries
        yield from _histograms(
            "mailmapd_database_query_duration_seconds",
            "Time of a query on its host.",
            ["database", "host"],
            self._observed.database_meter.durations,
        )
        connections = GaugeMetricFamily(
            "mailmapd_database_connections",
            "Connections to a host.",
            labels=["database", "host", "state"],
        )
        up = GaugeMetricFamily(
            "mailmapd_database_up",
            "Whether a host was reachable when last tried.",
            labels=["database", "host"],
        )
        for name, database in self._observed.engine.databases.items():
            reached = self._observed.reached(name)
            for host in database.status():
                connections.add_metric([name, host.host, "idle"], host.idle)
                connections.add_metric([name, host.host, "busy"], host.busy)
                up.add_metric([name, host.host], int(host.up and reached))
        yield from (connections, up)

    def _listeners(self) -> Iterator[Metric]:
        counts: dict[str, int] = {}
        for listener in self._observed.listeners:
            counts[listener.name] = counts.get(listener.name, 0) + len(listener.connections)
        connections = GaugeMetricFamily(
            "mailmapd_connections", "Open connections of clients.", labels=["listener"]
        )
        for name, count in counts.items():
            connections.add_metric([name], count)
        violations = CounterMetricFamily(
            "mailmapd_protocol_errors",
            "Connections closed for a protocol error.",
            labels=["listener", "reason"],
        )
        refused = CounterMetricFamily(
            "mailmapd_connections_refused",
            "Clients turned away: too many, or none of the peers.",
            labels=["listener"],
        )
        for name, meter in self._observed.client_meters.items():
            refused.add_metric([name], meter.refused)
            for reason, count in meter.violations.items():
                violations.add_metric([name, reason], count)
        unknown = CounterMetricFamily(
            "mailmapd_unknown_names",
            "Lookups of a map or dict that the configuration does not have.",
            labels=["listener"],
        )
        for name, names in self._observed.unknown.items():
            unknown.add_metric([name], names.total)
        yield from (connections, refused, violations, unknown)


_OUTCOME_ATTRIBUTES = {
    "hit": "hits",
    "negative_hit": "negative_hits",
    "stale": "stale",
    "coalesced": "coalesced",
    "miss": "misses",
}


def _add(total: Histogram, part: Histogram) -> None:
    total.counts = [a + b for a, b in zip(total.counts, part.counts, strict=True)]
    total.total += part.total


def _histograms(
    name: str, meaning: str, labels: list[str], histograms: Mapping[tuple[str, str], Histogram]
) -> Iterator[Metric]:
    """Yield a family of histograms: its head, and then one piece for each, because they are long."""
    yield HistogramMetricFamily(name, meaning, labels=labels)
    bounds = [*[str(bound) for bound in BUCKETS], "+Inf"]
    for values, histogram in histograms.items():
        piece = HistogramMetricFamily(name, meaning, labels=labels)
        counts = list(zip(bounds, accumulate(histogram.counts), strict=True))
        piece.add_metric(list(values), counts, histogram.total)
        yield piece
