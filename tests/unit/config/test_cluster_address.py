"""Where the server between the hosts is, and what is no such place."""

from __future__ import annotations

import pytest

from mailmapd.config.cluster_address import ClusterAddress, parse_cluster_url, parse_host_port
from mailmapd.config.loader import parse_config
from mailmapd.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/valkey.sock", ClusterAddress(path="/run/valkey.sock")),
        ("redis://host", ClusterAddress(host="host")),
        ("redis://host/", ClusterAddress(host="host")),
        ("redis://host:1/15", ClusterAddress(host="host", port=1, database=15)),
        ("rediss://[::1]:6380/0", ClusterAddress(host="::1", port=6380, encrypted=True)),
        ("redis://a%40b@host:1", ClusterAddress(host="host", port=1, user="a@b")),
    ],
)
def test_addresses(text: str, address: ClusterAddress) -> None:
    """A socket's path, or a host with port, database and account."""
    assert parse_cluster_url(text) == address


@pytest.mark.parametrize(
    "url",
    [
        *("", "host:6379", "http://host", "REDIS://host", "redis:/host", "redis://", "redis:///0"),
        *("redis://h/name", "redis://h/0/1", "redis://h/-1", "redis://h/²", "redis://h/123456"),
        *("redis://h:99999", "redis://h:0", "redis://h:port/0", "redis://h:-1"),
        *("redis://h/0?db=1", "redis://h/0?", "redis://h#x", "redis://[::1", "redis://a b/0"),
        *("redis://u:secret@h", "redis://:secret@h", "redis://h\\n/0", "redis://h/0\\u0000"),
        *("unix:relative", f"unix:/{'x' * 200}", "unix:", "unix:/a\\u0000b"),
        f"redis://h/{'9' * 5000}",
    ],
)
def test_what_is_none(url: str) -> None:
    """Anything else is a fault that names the key, says what to write, and shows no password."""
    with pytest.raises(ConfigError) as caught:
        parse_config(f'[cluster]\nurl = "{url}"\n', "mailmapd.toml")
    [fault] = caught.value.faults
    assert fault.where == "cluster.url"
    words = 'write url = "unix:/run/valkey/valkey.sock"'
    assert words in fault.remedy or "control character" in fault.problem
    assert "secret" not in fault.problem


@pytest.mark.parametrize(
    "place",
    ["h", "h:", ":1", "h:0", "h:65536", "h:x", "h:²", "::1:26379", "a b:1", "u@h:1", "h\n:1"],
)
def test_what_is_no_sentinel(place: str) -> None:
    """A Sentinel is a host with a port that there can be."""
    with pytest.raises(ValueError, match="is no host with a port"):
        parse_host_port(place)


def test_sentinels() -> None:
    """A name, an IPv4 address, and an IPv6 address in brackets are hosts."""
    for text in ("sentinel1.example.net:26379", "192.0.2.1:1", "[::1]:65535"):
        host, _, port = text.rpartition(":")
        assert parse_host_port(text) == (host.strip("[]"), int(port))


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ('url = "redis://a@h"\nuser = "a"', "cluster.user"),
        ('url = "redis://h"\nuser = ""', "cluster.user"),
        ('url = "redis://h"\npassword = ""', "cluster.password"),
        ('url = "redis://h"\nhost = ""', "cluster.host"),
        ('url = "redis://h"\nkey_file = ""', "cluster.key_file"),
        ('url = "redis://h"\nsentinel_password_file = "x"', "cluster.sentinel_password_file"),
        ('sentinels = ["h:1"]\nservice = ""', "cluster.service"),
        ('sentinels = ["h:99999"]\nservice = "s"', "cluster.sentinels[0]"),
    ],
)
def test_what_would_silently_mean_something_else(keys: str, where: str) -> None:
    """What is empty, or said twice, is a fault and not taken for what is not said."""
    with pytest.raises(ConfigError) as caught:
        parse_config(f"[cluster]\n{keys}\n", "mailmapd.toml")
    assert [fault.where for fault in caught.value.faults] == [where]
