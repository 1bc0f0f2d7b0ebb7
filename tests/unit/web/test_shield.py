from __future__ import annotations

import socket

import pytest

from mailmapd.web.shield import host_allowed

OWN = socket.gethostname()


@pytest.mark.parametrize(
    "host",
    [
        "",
        "127.0.0.1",
        "127.0.0.1:9780",
        "[::1]:9780",
        "[::1]",
        "192.0.2.1:80",
        "localhost",
        "LocalHost:9780",
        "x.localhost",
        socket.gethostname(),
    ],
)
def test_served(host: str) -> None:
    """Addresses, localhost names and this machine's name are served, with and without a port."""
    assert host_allowed(host)


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "example.com:80",
        "127.0.0.1.example.com",
        "localhost.example.com",
        "127.0.0.1:x",
        ":",
        "@",
    ],
)
def test_refused(host: str) -> None:
    """A name that somebody else can own is not served, whatever it looks like."""
    assert not host_allowed(host)
