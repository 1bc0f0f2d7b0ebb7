"""A private Prometheus that scrapes one target every second.

with Prometheus(directory, "127.0.0.1:9780") as prometheus:
    prometheus.query("sum(rate(mailmapd_lookups_total[5s]))")
"""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.process import ServerFailed, ServerProcess, free_port, program

_CONFIG = """
global:
  scrape_interval: 1s
  evaluation_interval: 1s
scrape_configs:
  - job_name: mailmapd
    static_configs:
      - targets: ["{target}"]
"""


class Prometheus:
    """A running Prometheus server with its data in `directory`."""

    def __init__(self, directory: Path, target: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.directory = directory
        self._config = directory / "prometheus.yml"
        self._config.write_text(_CONFIG.format(target=target))
        self._process: ServerProcess | None = None

    def __enter__(self) -> Self:
        command = [
            program("prometheus", "prometheus"),
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]
        self._process = ServerProcess(command, self.directory / "prometheus.log")
        self._process.wait_ready(self._ready, "prometheus")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.stop()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return the labels and value of every sample of an expression now.

        Raises ServerFailed when Prometheus refuses it.
        """
        data = urllib.parse.urlencode({"query": expression}).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query", data, timeout=30) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise ServerFailed(f"{expression}: {error.read().decode()}") from error
        return [
            (sample["metric"], float(sample["value"][1])) for sample in answer["data"]["result"]
        ]

    def numbers(self, expression: str) -> list[float]:
        """Return the values of an expression that are numbers: neither NaN nor infinite."""
        return [value for _, value in self.query(expression) if math.isfinite(value)]
