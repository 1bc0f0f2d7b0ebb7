"""Metrics of the fleet: its stream, and the answers that hosts share."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from mailmapd.stats.snapshot import ClusterState, SecondLevelState


def fleet(state: ClusterState | None) -> Iterator[Metric]:
    """Yield what there is to say of the fleet, where there is one."""
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
