"""Prometheus for a configuration: the shipped scrape job, with this configuration's address."""

from __future__ import annotations

from mailmapd.config.address import TcpAddress
from mailmapd.config.schema import Config
from mailmapd.errors import ConfigError, Fault
from mailmapd.snippets.shipped import shipped

_SHIPPED_TARGET = "127.0.0.1:9780"


def prometheus(config: Config) -> str:
    """Return the scrape job.

    Raises ConfigError when the configuration has no HTTP address that Prometheus could ask.
    """
    entry = config.listen.http
    if entry is None or not isinstance(entry.address, TcpAddress):
        raise ConfigError(
            [
                Fault(
                    config.file,
                    "listen.http",
                    "is no TCP address",
                    f'write http = "{_SHIPPED_TARGET}"',
                )
            ]
        )
    job = shipped("configs/prometheus/scrape.yml").read_text()
    undo = "# Undo: remove the job, and reload Prometheus.\n"
    return undo + job.replace(_SHIPPED_TARGET, str(entry.address))
