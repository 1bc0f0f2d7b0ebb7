"""A server that asks for the password under a key of its own does not get it across a network."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mailmapd.databases.mysql.database import MysqlDatabase
from mailmapd.databases.settings import MysqlSettings, TlsSettings
from mailmapd.errors import DatabaseUnavailable
from support.authority import Authority
from support.hostile_database import (
    CACHING,
    CAPABILITIES,
    CLIENT_SSL,
    NATIVE,
    OK,
    SALT,
    SHA256,
    Behaviour,
    Peer,
    greeting,
    hostile_database,
    switch_to,
)
from support.mysql_lookups import statement
from support.other_host import ADDRESS, run_with_other_host

PASSWORD = b"s3cret"
WAYS = {
    "native to caching_sha2": (NATIVE, CACHING),
    "native to sha256": (NATIVE, SHA256),
    "caching_sha2": (CACHING, CACHING),
    "sha256": (SHA256, SHA256),
    "unknown to sha256": (b"mysql_new_password", SHA256),
}

key = rsa.generate_private_key(65537, 2048)
other_key = rsa.generate_private_key(65537, 2048)


def public(pair: rsa.RSAPrivateKey) -> bytes:
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return pair.public_key().public_bytes(*form)


def thief(greet: bytes, plugin: bytes, heard: list[bytes]) -> Behaviour:
    """Make a server that wants the password itself under its own key, and notes what it can read of it."""

    async def behave(peer: Peer) -> None:
        await peer.send(greeting(greet))
        first = await peer.receive()
        if greet != plugin:
            await peer.send(switch_to(plugin))
            first = await peer.receive()
        elif plugin == SHA256:
            await peer.send(b"\x01" + public(key))
            first = await peer.receive()
        if plugin == CACHING:
            await peer.send(b"\x01\x04")
            first = await peer.receive()
        if first in (b"\x01", b"\x02"):
            await peer.send(b"\x01" + public(key))
            first = await peer.receive()
        heard.append(read(first))
        await peer.send(OK)
        await peer.command()

    return behave


def read(answer: bytes) -> bytes:
    """Return the password in an answer, or nothing where the key does not open it."""
    # MySQL's choice
    oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)  # noqa: S303
    try:
        mixed = key.decrypt(answer, oaep)
    except ValueError:
        return b""
    return bytes([byte ^ SALT[number % 20] for number, byte in enumerate(mixed)]).rstrip(b"\0")


def stolen(way: str, address: str, **settings: object) -> tuple[set[bytes], str]:
    """Ask such a server something; return the passwords that it heard, and our error."""
    heard: list[bytes] = []
    texts: list[str] = []

    async def ask() -> None:
        async with hostile_database(thief(*WAYS[way], heard), address=address) as port:
            made = MysqlSettings(
                hosts=(f"{address}:{port}",),
                user="mail",
                password=PASSWORD.decode(),
                connect_timeout=5.0,
                **settings,  # type: ignore[arg-type]
            )
            database = MysqlDatabase("mail", made, probe_interval=60.0)
            try:
                await database.fetch(statement("SELECT 1"))
            except DatabaseUnavailable as error:
                texts.append(str(error))
            finally:
                await database.close()

    run_with_other_host(ask)
    return set(heard), "".join(texts)


pytestmark = pytest.mark.root


@pytest.mark.parametrize("way", WAYS)
def test_no_password_to_a_stranger(way: str) -> None:
    """Over plain TCP from another host no server gets the password under its own key, and the error
    names three ways out.
    """
    heard, text = stolen(way, ADDRESS)
    assert heard == set()
    if way != "sha256":
        assert "configure tls" in text
        assert "server_public_key" in text
        assert "get_server_public_key = true" in text


@pytest.mark.parametrize("way", list(WAYS)[:3])
def test_any_key_when_that_is_wanted(way: str) -> None:
    """Whoever accepts any key by get_server_public_key gets what he asked for."""
    heard, _ = stolen(way, ADDRESS, get_server_public_key=True)
    assert heard == {PASSWORD}


@pytest.mark.parametrize("way", list(WAYS)[:3])
@pytest.mark.parametrize("ours", [key, other_key], ids=["its key", "another key"])
def test_the_key_that_is_named(way: str, ours: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    """With server_public_key the password goes under that key alone, whatever key the server would like."""
    (tmp_path / "server.pub").write_bytes(public(ours))
    heard, _ = stolen(way, ADDRESS, server_public_key=str(tmp_path / "server.pub"))
    assert heard == {PASSWORD if ours is key else b""}


@pytest.mark.parametrize("option", ["server-public-key-path = {}", "get-server-public-key"])
def test_the_option_file_may_say_so(option: str, tmp_path: Path) -> None:
    """An option file may name the key, or accept any, in the client library's own words."""
    (tmp_path / "server.pub").write_bytes(public(key))
    (tmp_path / "my.cnf").write_text("[client]\n" + option.format(tmp_path / "server.pub") + "\n")
    heard, text = stolen("caching_sha2", ADDRESS, option_file=str(tmp_path / "my.cnf"))
    assert heard == {PASSWORD}, text


def test_a_key_that_is_not_there() -> None:
    """A key file that cannot be read is named, and nothing is sent."""
    heard, text = stolen("caching_sha2", ADDRESS, server_public_key="/nowhere/server.pub")
    assert heard == set()
    assert "server_public_key /nowhere/server.pub: No such file" in text


def test_this_host_is_no_stranger() -> None:
    """On this host the server's own key is taken, as ever."""
    heard, _ = stolen("caching_sha2", "127.0.0.1")
    assert heard == {PASSWORD}


@pytest.mark.parametrize("named", ["ours", "foreign", ""], ids=["right", "wrong chain", "none"])
def test_a_stranger_with_a_certificate(named: str, tmp_path: Path) -> None:
    """Behind TLS with another authority's certificate nothing is heard of the login; without an authority all of it."""
    authorities = {name: Authority(tmp_path, name) for name in ("ours", "foreign")}
    files = tmp_path / "server.pem", tmp_path / "server.key"
    authorities["ours"].issue("127.0.0.1").write(*files)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    heard: list[bytes] = []

    async def behave(peer: Peer) -> None:
        await peer.send(greeting(CACHING, CAPABILITIES | CLIENT_SSL))
        assert len(await peer.receive()) == 32  # the wish for TLS, without a name
        with contextlib.suppress(ssl.SSLError):
            await peer.start_tls(context)
            heard.append(await peer.receive())
            await peer.send(b"\x01\x04")
            heard.append(await peer.receive())
            await peer.send(OK)
            await peer.command()

    async def ask() -> str:
        ca = str(authorities[named].file) if named else None
        async with hostile_database(behave) as port:
            made = MysqlSettings(
                hosts=(f"127.0.0.1:{port}",),
                user="mail",
                password=PASSWORD.decode(),
                connect_timeout=5.0,
                tls=TlsSettings(ca=ca, verify=False),
            )
            database = MysqlDatabase("mail", made, probe_interval=60.0)
            with pytest.raises(DatabaseUnavailable) as caught:
                await database.fetch(statement("SELECT 1"))
            await database.close()
        return str(caught.value)

    text = asyncio.run(ask())
    if named == "foreign":
        assert heard == []
        assert "certificate is refused" in text
    else:
        assert heard[1] == PASSWORD + b"\0"
