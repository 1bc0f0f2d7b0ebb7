"""The text that Prometheus gets, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import Metric

from mailmapd.metrics.collector import MailmapdCollector, Observed


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
