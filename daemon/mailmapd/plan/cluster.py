"""From the `[cluster]` section to settings."""

from __future__ import annotations

import socket

from mailmapd.cluster.settings import ClusterSettings
from mailmapd.config.schema import Config
from mailmapd.config.secrets import cluster_secret
from mailmapd.config.size import size_in_bytes
from mailmapd.errors import ConfigError, Fault
from mailmapd.plan.databases import tls_settings

_SHORTEST_KEY = 32  # bytes of the secret that seals shared answers


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
        allow_plain_password=section.allow_plain_password,
        stream=section.stream,
        host=section.host or socket.gethostname(),
        max_messages=section.max_messages,
        key=_key(config),
        second_level=section.second_level,
        second_level_passwords=section.second_level_passwords,
        second_level_max_bytes=size_in_bytes(section.second_level_max_bytes),
    )


def _key(config: Config) -> bytes:
    """Return the secret that hosts share; one that guards answers must not be easy to guess. Raises ConfigError."""
    key = cluster_secret(config, "key_file").encode()
    if config.cluster is not None and config.cluster.second_level and len(key) < _SHORTEST_KEY:
        problem = f"holds less than {_SHORTEST_KEY} bytes, so that whoever reads the server could guess it"
        remedy = (
            "write a random one on one host, and copy it to the others: openssl rand -base64 32"
        )
        raise ConfigError([Fault(config.file, "cluster.key_file", problem, remedy)])
    return key
