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
