"""Keys of `[cluster]` and `[dovecot]` that need each other, or exclude each other."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailmapd.config.address import TcpAddress
from mailmapd.config.cluster_address import parse_cluster_url, parse_host_port
from mailmapd.config.schema import ClusterSection, Config

_Finding = tuple[str, str, str]

_URL_REMEDY = (
    'write url = "unix:/run/valkey/valkey.sock", "redis://host:6379/0" or "rediss://host:6379/0", and the '
    "password into password_file"
)


def cluster_faults(config: Config) -> Iterator[_Finding]:
    """Yield every fault: its key, the problem and the remedy."""
    if config.dovecot is not None and isinstance(config.dovecot.auth_master, TcpAddress):
        remedy = 'write auth_master = "unix:/run/dovecot/mailmapd-master"'
        yield "dovecot.auth_master", "must be a UNIX socket", remedy
    cluster = config.cluster
    if cluster is None:
        return
    yield from _address_faults(cluster)
    if cluster.password is not None and cluster.password_file is not None:
        yield "cluster.password", "password and password_file are both set", "keep one of them"
    if cluster.tls is not None and cluster.url is not None and cluster.url.startswith("unix:"):
        yield "cluster.tls", "means nothing for a UNIX socket", "remove it"
    if cluster.second_level and cluster.key_file is None:
        remedy = "name a file with a random secret that all hosts have: openssl rand -base64 32"
        yield "cluster.key_file", "is missing, and second_level needs it", remedy
    if "%" in cluster.second_level_max_bytes:
        where = "cluster.second_level_max_bytes"
        yield where, "is a part of this machine's memory", 'write a size, such as "256MiB"'
    if not re.fullmatch(r"[\w.:{}-]+", cluster.stream):
        remedy = 'write letters, digits and "-", such as "mailmapd"'
        yield "cluster.stream", "is no plain name", remedy


def _address_faults(cluster: ClusterSection) -> Iterator[_Finding]:
    if cluster.url is None and not cluster.sentinels:
        yield "cluster.url", "is missing", f"{_URL_REMEDY}; or sentinels and service"
    if cluster.url is not None:
        if cluster.sentinels:
            yield "cluster.url", "cannot stand beside sentinels", "remove one of them"
        try:
            address = parse_cluster_url(cluster.url)
        except ValueError as error:
            yield "cluster.url", str(error), _URL_REMEDY
        else:
            if address.user and cluster.user is not None:
                yield "cluster.user", "stands in the url, too", "keep one of them"
    if bool(cluster.sentinels) != (cluster.service is not None):
        yield "cluster.service", "goes with sentinels", "name the service as the sentinels know it"
    for index, sentinel in enumerate(cluster.sentinels):
        try:
            parse_host_port(sentinel)
        except ValueError as error:
            yield f"cluster.sentinels[{index}]", str(error), 'write "host:26379"'
    if cluster.sentinel_password_file is not None and not cluster.sentinels:
        yield "cluster.sentinel_password_file", "means nothing without sentinels", "remove it"
