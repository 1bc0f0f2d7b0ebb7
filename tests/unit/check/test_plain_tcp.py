"""Which connections to databases others may listen to."""

from __future__ import annotations

from typing import Any

import pytest

from mailmapd.check.plain_tcp import plain_tcp_findings
from mailmapd.databases.settings import MysqlSettings, TlsSettings


async def codes(*hosts: str, **settings: Any) -> list[str]:
    made = MysqlSettings(hosts=hosts, **settings)
    return [finding.code async for finding in plain_tcp_findings("mail", made)]


@pytest.mark.parametrize(
    "host", ["unix:/run/mysqld/mysqld.sock", "localhost", "127.0.0.1:3306", "127.9.9.9", "[::1]"]
)
async def test_this_host(host: str) -> None:
    """A UNIX socket and this host's own addresses are nobody else's business."""
    assert await codes(host) == []


async def test_another_host() -> None:
    """Plain TCP to another host is named, whatever the other hosts are."""
    assert await codes("127.0.0.1", "198.51.100.7:3307") == ["plain_tcp"]


async def test_tls() -> None:
    """TLS with an authority is fine; TLS that takes any certificate is named."""
    assert await codes("198.51.100.7", tls=TlsSettings(ca="/etc/ca.pem", verify=False)) == []
    assert await codes("198.51.100.7", tls=TlsSettings()) == []
    assert await codes("198.51.100.7", tls=TlsSettings(verify=False)) == ["any_certificate"]


async def test_any_key() -> None:
    """The finding says so when the password itself may be had."""
    made = MysqlSettings(hosts=("198.51.100.7",), get_server_public_key=True)
    (found,) = [finding async for finding in plain_tcp_findings("mail", made)]
    assert "get_server_public_key" in found.problem
