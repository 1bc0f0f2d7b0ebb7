"""What others may hear or change on the way to the server between the hosts."""

from __future__ import annotations

from typing import Any

import pytest

from mailmapd.check.cluster import acl_line, cluster_findings
from mailmapd.check.finding import Finding, Level
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.databases.settings import TlsSettings

FAR = "198.51.100.7:6379"  # an address that nobody has
SENTINELS = {"sentinels": ("198.51.100.7:26379",), "service": "mail"}
ANY = TlsSettings(verify=False)


async def first(**settings: Any) -> Finding:
    """Return the first finding, which needs no connection."""
    findings = cluster_findings(ClusterSettings(**settings))
    try:
        return await anext(findings)
    finally:
        await findings.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"url": f"redis://{FAR}/0"}, "cluster_plain"),
        (SENTINELS, "cluster_plain"),
        ({"url": f"rediss://{FAR}/0", "tls": ANY}, "any_certificate"),
        ({"url": f"redis://{FAR}/0", "tls": ANY}, "any_certificate"),
        ({**SENTINELS, "tls": ANY}, "any_certificate"),
    ],
)
async def test_network(settings: dict[str, Any], code: str) -> None:
    """A connection in the clear, or to whoever shows some certificate, is named."""
    assert (await first(**settings)).code == code


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "rediss://127.0.0.1:1/0", "tls": ANY},
        {"url": "redis://localhost:1"},
        {"url": "unix:/nowhere"},
    ],
)
async def test_this_host(settings: dict[str, Any]) -> None:
    """What does not leave this host is nobody else's business; only that the server is away is said."""
    assert (await first(**settings)).code == "cluster"


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        ({}, Level.WARNING),
        ({"password": "x"}, Level.FAULT),
        ({"password": "x", "allow_plain_password": True}, Level.WARNING),
    ],
)
async def test_password_in_the_clear(settings: dict[str, Any], level: Level) -> None:
    """A password that is not given is a fault; one that is allowed is named."""
    found = await first(url=f"redis://{FAR}/0", **settings)
    assert found.level is level
    assert ("password" in found.problem) is bool(settings)


async def test_checked_certificates() -> None:
    """TLS that compares the certificate with an authority, or with the name as well, is fine."""
    for tls in (TlsSettings(ca="/nowhere/ca.pem", verify=False), TlsSettings(ca="/nowhere/ca.pem")):
        assert (await first(url="rediss://127.0.0.2:1", tls=tls)).code == "cluster"


def test_account() -> None:
    """The account is the one that the URL names."""
    assert acl_line(ClusterSettings(url="redis://mx%40a@host")).startswith("ACL SETUSER mx@a reset")
