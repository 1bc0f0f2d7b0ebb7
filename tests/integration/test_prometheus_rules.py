"""The scrape snippet, recording rules and alerts, as promtool judges them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
CONFIGS = PROJECT / "configs" / "prometheus"
CASES = PROJECT / "tests" / "data" / "prometheus" / "alerts.test.yml"

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed"
)


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_record_and_alert_as_meant() -> None:
    """Every case of alerts.test.yml holds: what fires, for whom, and what does not."""
    promtool("test", "rules", CASES)


def test_every_alert_has_a_case() -> None:
    """No alert is without a case in which it fires."""
    alerts = re.findall(r"- alert: (\w+)", (CONFIGS / "mailmapd.alerts.yml").read_text())
    cases = CASES.read_text()
    assert alerts
    assert [
        alert for alert in alerts if f'alertname="{alert}",alertstate="firing"' not in cases
    ] == []


def test_scrape_snippet_and_rules_make_a_configuration(tmp_path: Path) -> None:
    """The snippet, pasted under scrape_configs, is a configuration that Prometheus takes, with both rule files."""
    rules = [str(CONFIGS / name) for name in ("mailmapd.rules.yml", "mailmapd.alerts.yml")]
    config = tmp_path / "prometheus.yml"
    config.write_text(
        f"rule_files: {json.dumps(rules)}\nscrape_configs:\n{(CONFIGS / 'scrape.yml').read_text()}"
    )
    promtool("check", "config", config)


def test_installation_guide_extends_debians_configuration(tmp_path: Path) -> None:
    """The commands of docs/install.md turn the prometheus.yml of Debian's package into one that
    scrapes mailmapd and loads its rules.
    """
    debian = Path("/etc/prometheus/prometheus.yml")
    if not debian.exists():
        pytest.skip("Debian's prometheus is not installed")
    shutil.copy(debian, tmp_path)
    guide = (PROJECT / "docs" / "install.md").read_text()
    block = re.search(
        r"^## \d+\. Prometheus\n.*?^```sh\n(.*?)^```", guide, re.MULTILINE | re.DOTALL
    )
    assert block
    script = (
        block[1]
        .replace("/etc/prometheus", str(tmp_path))
        .replace("/usr/share/doc/mailmapd/examples", str(CONFIGS.parent))
    )
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "job_name: mailmapd" in (tmp_path / "prometheus.yml").read_text()
    assert "2 rule files found" in done.stdout
