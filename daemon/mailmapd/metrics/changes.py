"""Metrics of changes: the logs that are followed, what was forgotten because of them, and Dovecot's auth cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from mailmapd.engine.table import Table
from mailmapd.stats.snapshot import FeedState


def changes(feeds: Iterable[FeedState], tables: Mapping[str, Table]) -> Iterator[Metric]:
    """Yield what there is to say of logs that are followed, and of what was forgotten."""
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
    read = CounterMetricFamily(
        "mailmapd_changes",
        "What was read in logs of changes.",
        labels=["database", "host", "kind"],
    )
    for feed in feeds:
        labels = [feed["database"], feed["host"]]
        following.add_metric(labels, int(feed["following"]))
        if feed["following"]:
            lag.add_metric(labels, feed["silence"])
        for kind in ("row", "schema", "statement", "unknown"):
            read.add_metric([*labels, kind], feed["counts"].get(kind, 0))
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
    for name, table in tables.items():
        watched.add_metric([name], int(table.watch is not None))
        for grade, count in table.invalidations.items():
            forgotten.add_metric([name, grade], count)
        for result, count in table.audits.items():
            audits.add_metric([name, result], count)
    yield from (following, lag, read, watched, forgotten, audits)


def auth_cache(state: tuple[bool, int] | None) -> Iterator[Metric]:
    """Yield what there is to say of Dovecot's auth cache, where there is one."""
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
