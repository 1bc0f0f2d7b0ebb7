"""The password for a fleet's server, and for its Sentinels, on the way to another host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mailmapd.cluster.server import Server
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.errors import ClusterError
from support.other_host import ADDRESS, run_with_other_host

SECRET = "s3cret"


@asynccontextmanager
async def listening(host: str, heard: bytearray) -> AsyncIterator[str]:
    """Give the address of a server that hears everything, and answers nothing that is of use."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            heard.extend(data)
            writer.write(b"-ERR no\r\n")
        writer.close()

    async with await asyncio.start_server(serve, host, 0) as server:
        yield f"{host}:{server.sockets[0].getsockname()[1]}"


async def told(host: str, *, sentinel: bool, plain: bool = False, password: bool = True) -> str:
    """Return what the server hears, and what is said of the failure."""
    heard = bytearray()
    async with listening(host, heard) as place:
        server = Server(
            ClusterSettings(
                url="" if sentinel else f"redis://{place}",
                sentinels=(place,) if sentinel else (),
                service="mail" if sentinel else "",
                password=SECRET if password else "",
                sentinel_password=SECRET if sentinel and password else "",
                allow_plain_password=plain,
            )
        )
        with pytest.raises(ClusterError) as failure:
            await server.members()
        await server.close()
    return f"{heard.decode()} {failure.value}"


@pytest.mark.root
@pytest.mark.parametrize("sentinel", [False, True])
def test_another_host(sentinel: bool) -> None:
    """Without TLS another host hears no password, and the failure names the ways, unless it is allowed."""

    async def work() -> None:
        refused = await told(ADDRESS, sentinel=sentinel)
        assert SECRET not in refused
        assert sentinel or "allow_plain_password" in refused
        assert SECRET in await told(ADDRESS, sentinel=sentinel, plain=True)
        assert "allow_plain" not in await told(ADDRESS, sentinel=sentinel, password=False)

    run_with_other_host(work)


@pytest.mark.parametrize("sentinel", [False, True])
async def test_this_host(sentinel: bool) -> None:
    """On this host nobody else hears it."""
    assert SECRET in await told("127.0.0.1", sentinel=sentinel)


@asynccontextmanager
async def sentinel(host: str, named: str) -> AsyncIterator[str]:
    """Give the address of a Sentinel that names a server."""
    address, _, port = named.rpartition(":")
    words = ["name", "mail", "ip", address, "port", port, "flags", "master"]
    words += ["num-other-sentinels", "0"]
    said = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            writer.write(f"*1\r\n*{len(words)}\r\n{said}".encode())
        writer.close()

    async with await asyncio.start_server(serve, host, 0) as server:
        yield f"{host}:{server.sockets[0].getsockname()[1]}"


async def heard_by_named(sentinels_host: str, *, plain: bool = False) -> str:
    """Return what a server of this host hears that a Sentinel names."""
    heard = bytearray()
    async with listening("127.0.0.1", heard) as thief, sentinel(sentinels_host, thief) as place:
        settings = ClusterSettings(
            sentinels=(place,), service="mail", password=SECRET, allow_plain_password=plain
        )
        server = Server(settings)
        with pytest.raises(ClusterError):
            await server.members()
        await server.close()
    return heard.decode()


@pytest.mark.root
def test_a_port_of_this_host_that_another_names() -> None:
    """A Sentinel of another host, or who stands in its place, sends the password to no port of this one."""

    async def work() -> None:
        assert SECRET not in await heard_by_named(ADDRESS)
        assert SECRET in await heard_by_named(ADDRESS, plain=True)
        assert SECRET in await heard_by_named("127.0.0.1")

    run_with_other_host(work)
