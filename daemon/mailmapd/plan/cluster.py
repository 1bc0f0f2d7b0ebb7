"""From the `[cluster]` section to settings."""

from __future__ import annotations

import socket

from mailmapd.cluster.settings import ClusterSettings
from mailmapd.config.schema import Config
from mailmapd.config.secrets import cluster_secret
from mailmapd.plan.databases import tls_settings


def cluster_settings(config: Config) -> ClusterSettings | None:
    """Return the settings of `[cluster]`, its secrets read, or None without one. Raises ConfigError."""
    section = config.cluster
    if section is None:
        return None
    return ClusterSettings(
        url=section.url or "",
        sentinels=section.sentinels,
        service=section.service or "",
        user=section.user,
        password=section.password or cluster_secret(config, "password_file"),
        sentinel_password=cluster_secret(config, "sentinel_password_file"),
        tls=tls_settings(config, section.tls),
        stream=section.stream,
        host=section.host or socket.gethostname(),
        max_messages=section.max_messages,
        key=cluster_secret(config, "key_file").encode(),
    )
