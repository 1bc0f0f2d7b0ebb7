"""The border to redis-py: whatever a server answers, and whoever it is, is a ClusterError or what was asked for."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mailmapd.cluster.scripts import ASK
from mailmapd.cluster.server import Server
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.databases.settings import TlsSettings
from mailmapd.errors import ClusterError
from support.authority import Authority

Ask = Callable[[Server], Awaitable[Any]]

ASKED: dict[str, Ask] = {
    "evaluate": lambda server: server.evaluate(ASK, [], []),
    "members": lambda server: server.members(),
    "memory": lambda server: server.memory(),
}
LINES = b"a:1\r\n" * 20_000
ODD = (
    b"$%d\r\n%b\r\n" % (len(LINES), LINES),
    b":7\r\n",
    b"*1\r\n:7\r\n",
    b"*2\r\n$1\r\n\xff\r\n:1\r\n",
)


@asynccontextmanager
async def answering(
    reply: bytes, port: bool = False, tls: ssl.SSLContext | None = None, path: str = ""
) -> AsyncIterator[str]:
    """Serve one reply to whatever comes; give the address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            writer.write(reply)
        writer.close()

    if port:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        address = f"rediss://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    else:
        server = await asyncio.start_unix_server(serve, path)
        address = f"unix:{path}"
    async with server:
        yield address


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
async def test_odd_answers(ask: Ask, short_path: Path) -> None:
    """An answer of any other form than was asked for is a failure of the server, and no defect of ours."""
    for number, reply in enumerate(ODD):
        async with answering(reply, path=str(short_path / f"odd{number}")) as url:
            server = Server(ClusterSettings(url=url))
            try:
                await ask(server)
            except ClusterError:
                pass
            finally:
                await server.close()


@pytest.mark.parametrize("verify", [True, False])
async def test_only_the_authority_that_is_named(
    verify: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate of another authority is refused, and be it one that the system trusts."""
    ours, systems = Authority(tmp_path, "ours"), Authority(tmp_path, "systems")
    monkeypatch.setenv("SSL_CERT_FILE", str(systems.file))
    files = tmp_path / "server.pem", tmp_path / "server.key"
    systems.issue("127.0.0.1").write(*files)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)

    async def said(ca: Path) -> str:
        tls = TlsSettings(ca=str(ca), verify=verify)
        async with answering(b"*0\r\n", port=True, tls=context) as url:
            server = Server(ClusterSettings(url=url, tls=tls))
            try:
                await server.members()
            except ClusterError as error:
                return str(error)
            finally:
                await server.close()
        return ""

    assert "certificate verify failed" in await said(ours.file)
    assert await said(systems.file) == ""


async def test_sentinels_of_another_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is with Sentinels, whose answers are no longer than any other server's."""
    ours, systems = Authority(tmp_path, "ours"), Authority(tmp_path, "systems")
    monkeypatch.setenv("SSL_CERT_FILE", str(systems.file))
    files = tmp_path / "server.pem", tmp_path / "server.key"
    systems.issue("127.0.0.1").write(*files)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            heard.append(data)
            writer.write(b"+%b\r\n" % (b"x" * 70_000))
        writer.close()

    async def asked(ca: Path) -> None:
        tls = TlsSettings(ca=str(ca), verify=False)
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as listening:
            place = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            settings = ClusterSettings(
                sentinels=(place,), service="mail", sentinel_password="s3cret", tls=tls
            )
            server = Server(settings)
            with pytest.raises(ClusterError):
                await server.members()
            await server.close()

    await asked(ours.file)
    assert heard == []
    await asked(systems.file)
    assert b"s3cret" in b"".join(heard)
