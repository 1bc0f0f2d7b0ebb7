"""The documents name what the program has: every metric, every alert, every command."""

from __future__ import annotations

import json
import re
import time
from dataclasses import fields
from pathlib import Path

import pytest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from mailmapd.app.daemon import Daemon
from mailmapd.app.service_manager import ServiceManager
from mailmapd.auth_cache.forgetting import AuthCache
from mailmapd.cli import COMMANDS
from mailmapd.config.loader import parse_config
from mailmapd.engine.look import Held
from mailmapd.engine.orders import FlushReport
from mailmapd.metrics.collector import MailmapdCollector
from mailmapd.sockets.opening import SocketSet

PROJECT = Path(__file__).parents[2]
DOCUMENTED_METRIC = re.compile(r"^\| `(mailmapd_\w+)` \| (\w+) \|([^|]*)\| (.+) \|$", re.MULTILINE)


def documented_metrics() -> dict[str, tuple[str, tuple[str, ...]]]:
    text = (PROJECT / "docs" / "metrics.md").read_text()
    return {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels, _ in DOCUMENTED_METRIC.findall(text)
    }


def labels_of(family: Metric) -> tuple[str, ...]:
    """Return the names of a family's labels; a Metric that is nothing more than that keeps none."""
    assert isinstance(family, CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily)
    return family._labelnames


def real_metrics() -> dict[str, tuple[str, tuple[str, ...]]]:
    text = f'[cluster]\nurl = "unix:/nowhere"\nsecond_level = true\nkey_file = "{__file__}"'
    config = parse_config(text, "mailmapd.toml")
    daemon = Daemon(config, SocketSet({}), ServiceManager({}))
    daemon._auth_cache._cache = AuthCache("/nowhere", lambda: daemon.engine, time.monotonic)
    families = MailmapdCollector(daemon).collect()
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: (
            family.type,
            labels_of(family),
        )
        for family in families
    }


def test_every_metric_is_documented_as_it_is() -> None:
    """docs/metrics.md lists each metric with its type and labels, and none that does not exist."""
    assert documented_metrics() == real_metrics()


def test_every_metric_used_by_rules_and_dashboard_exists() -> None:
    """Rules, alerts and dashboard speak of metrics that the daemon has."""
    files = [
        *(PROJECT / "configs" / "prometheus").glob("*.yml"),
        *(PROJECT / "configs" / "grafana").glob("*.json"),
    ]
    used = {name for file in files for name in re.findall(r"\bmailmapd_[a-z_]+", file.read_text())}
    suffixes = ("", "_bucket", "_count", "_sum")
    known = {name + suffix for name in real_metrics() for suffix in suffixes} | {"mailmapd_"}
    assert used - known == set()


def test_every_alert_is_documented() -> None:
    """docs/metrics.md has a line for each alert, with its severity."""
    alerts = re.findall(
        r"- alert: (\w+).*?severity: (\w+)",
        (PROJECT / "configs/prometheus/mailmapd.alerts.yml").read_text(),
        re.DOTALL,
    )
    documented = re.findall(
        r"^\| `(Mailmapd\w+)` \| (\w+) \|",
        (PROJECT / "docs" / "metrics.md").read_text(),
        re.MULTILINE,
    )
    assert documented == alerts


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command: str) -> None:
    """The README or a page of docs/ shows each command."""
    pages = [PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")]
    assert any(re.search(rf"\bmailmapd {command}\b", page.read_text()) for page in pages)


def test_replies_of_the_control_socket_are_documented() -> None:
    """docs/control.md shows every member of what the daemon says of an entry and of a flush."""
    text = (PROJECT / "docs" / "control.md").read_text()
    replies = [
        json.loads(line)
        for line in re.findall(r"^← (.*}})$", text, re.MULTILINE)
        if "…" not in line
    ]
    [held] = [reply["held"] for reply in replies if "held" in reply]
    assert list(held) == [field.name for field in fields(Held)]
    report = json.loads(re.findall(r'^← (.*"dropped".*)$', text, re.MULTILINE)[0])
    assert list(report) == ["ok", *(field.name for field in fields(FlushReport))]
