from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web

from mailmapd.web.shield import host_allowed, make_shield

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


@pytest.mark.parametrize(
    ("served", "asked"), [("::", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::1", "::1")]
)
async def test_a_name_that_leads_to_this_machine(served: str, asked: str) -> None:
    """Over a loopback address no page is served under a stranger's name, also by a socket for both families."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text="1")

    app = web.Application(middlewares=[make_shield(())])
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    with socket.create_server(
        (served, 0),
        family=socket.AF_INET6 if ":" in served else socket.AF_INET,
        dualstack_ipv6=served == "::",
    ) as bound:
        await web.SockSite(runner, bound).start()
        reader, writer = await asyncio.open_connection(asked, bound.getsockname()[1])
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"421"
        writer.close()
        await runner.cleanup()
