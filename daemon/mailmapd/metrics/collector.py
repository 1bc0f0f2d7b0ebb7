"""The Prometheus collector: reads the daemon's own counters when somebody scrapes, and costs lookups nothing.

Labels hold configured names and fixed words, never anything a client sent.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import accumulate
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mailmapd import __version__
from mailmapd.cache.memory import Memory
from mailmapd.engine.engine import Engine
from mailmapd.engine.meters import BUCKETS, RESULTS, ClientMeter, Histogram, LookupMeter
from mailmapd.engine.outcome import Source
from mailmapd.engine.unknown_names import UnknownNames
from mailmapd.metrics.database_meter import DatabaseMeter
from mailmapd.stats.snapshot import ClusterState, FeedState, SecondLevelState


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
        yield from self._changes()
        yield from self._cluster()
        yield from self._auth_cache()
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

    def _changes(self) -> Iterator[Metric]:
        following = GaugeMetricFamily(
            "mailmapd_changes_following",
            "Whether a host's log of changed rows is followed, without a gap.",
            labels=["database", "host"],
        )
        lag = GaugeMetricFamily(
            "mailmapd_changes_lag_seconds",
            "For how long nothing was heard of a host that is followed; it sends something each second.",
            labels=["database", "host"],
        )
        changes = CounterMetricFamily(
            "mailmapd_changes",
            "What was read in logs of changes.",
            labels=["database", "host", "kind"],
        )
        for feed in self._observed.feeds():
            labels = [feed["database"], feed["host"]]
            following.add_metric(labels, int(feed["following"]))
            if feed["following"]:
                lag.add_metric(labels, feed["silence"])
            for kind in ("row", "schema", "statement", "unknown"):
                changes.add_metric([*labels, kind], feed["counts"].get(kind, 0))
        forgotten = CounterMetricFamily(
            "mailmapd_invalidations",
            "Keys that were forgotten, and tables that were forgotten or distrusted as a whole.",
            labels=["table", "grade"],
        )
        audits = CounterMetricFamily(
            "mailmapd_audits",
            "Answers of followed tables that were asked anew and compared.",
            labels=["table", "result"],
        )
        watched = GaugeMetricFamily(
            "mailmapd_table_watched",
            "Whether changes of what a table's query reads are heard of, so that answers are kept for long.",
            labels=["table"],
        )
        for name, table in self._observed.engine.tables.items():
            watched.add_metric([name], int(table.watch is not None))
            for grade, count in table.invalidations.items():
                forgotten.add_metric([name, grade], count)
            for result, count in table.audits.items():
                audits.add_metric([name, result], count)
        yield from (following, lag, changes, watched, forgotten, audits)

    def _auth_cache(self) -> Iterator[Metric]:
        """Yield what there is to say of Dovecot's auth cache, where there is one."""
        state = self._observed.auth_cache()
        if state is None:
            return
        up, flushes = state
        yield GaugeMetricFamily(
            "mailmapd_auth_cache_up", "Whether Dovecot's auth cache can be told to forget.", int(up)
        )
        yield CounterMetricFamily(
            "mailmapd_auth_cache_flushes",
            "How often Dovecot's auth cache was told to forget.",
            flushes,
        )

    def _cluster(self) -> Iterator[Metric]:
        """Yield what there is to say of the fleet, where there is one."""
        state = self._observed.cluster_state()
        if state is None:
            return
        yield GaugeMetricFamily(
            "mailmapd_cluster_up", "Whether the stream of the fleet is read.", int(state["up"])
        )
        yield GaugeMetricFamily(
            "mailmapd_cluster_can_tell",
            "Whether this host can tell the others anything.",
            int(state["up"] and not state["mute"]),
        )
        yield GaugeMetricFamily(
            "mailmapd_cluster_lag_seconds",
            "How long ago it was last proven that no message was missed.",
            state["lag"],
        )
        yield GaugeMetricFamily(
            "mailmapd_cluster_followers",
            "Other hosts that vouch for changes of databases.",
            len(state["followers"]),
        )
        yield CounterMetricFamily(
            "mailmapd_cluster_gaps", "How often messages may have been missed.", state["gaps"]
        )
        messages = CounterMetricFamily(
            "mailmapd_cluster_messages", "Messages of the stream.", labels=["direction"]
        )
        for direction, count in state["messages"].items():
            messages.add_metric([direction], count)
        tables = GaugeMetricFamily(
            "mailmapd_cluster_watched_tables",
            "Tables that are kept for long because other hosts vouch for their changes.",
            labels=["database"],
        )
        for database, names in state["watched"].items():
            tables.add_metric([database], len(names))
        yield from (messages, tables)
        if state["second_level"] is not None:
            yield from _second_level(state["second_level"])

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


class _Piece:
    """Passes for a registry with `generate_latest`: one metric family, or a piece of it."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        """Yield it."""
        yield self._metric


class Exposition:
    """The registry of one daemon, and its text."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, observed: Observed) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(MailmapdCollector(observed))
        for standard in (ProcessCollector, PlatformCollector, GCCollector):
            standard(registry=self._registry)

    def pieces(self) -> Iterator[bytes]:
        """Yield all metrics in Prometheus' text format, a piece of a family at a time: lookups go between."""
        before = ""
        for metric in self._registry.collect():
            text = generate_latest(_Piece(metric))
            if metric.name == before:  # its head has been written
                text = b"".join(
                    line for line in text.splitlines(keepends=True) if not line.startswith(b"# ")
                )
            before = metric.name
            yield text


def _second_level(state: SecondLevelState) -> Iterator[Metric]:
    """Yield what there is to say of the answers that hosts share."""
    yield GaugeMetricFamily(
        "mailmapd_cluster_second_level_up",
        "Whether shared answers are asked for.",
        int(state["up"]),
    )
    answers = CounterMetricFamily(
        "mailmapd_cluster_second_level_answers",
        "Questions to the second level, by what came of them.",
        labels=["outcome"],
    )
    for outcome, count in state["answers"].items():
        answers.add_metric([outcome], count)
    shared = CounterMetricFamily(
        "mailmapd_cluster_second_level_shared",
        "Answers that were to be shared, by what became of them.",
        labels=["outcome"],
    )
    for outcome, count in state["shared"].items():
        shared.add_metric([outcome], count)
    yield from (answers, shared)
    yield CounterMetricFamily(
        "mailmapd_cluster_second_level_doubts",
        "How often everything shared was made unusable, because something was not told to the second level.",
        state["doubts"],
    )
    yield GaugeMetricFamily(
        "mailmapd_cluster_second_level_server_bytes",
        "Bytes that the server of the fleet uses, as this host saw last when it shared something.",
        state["used"],
    )
