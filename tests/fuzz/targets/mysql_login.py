"""Any bytes from a database server that we log in to: a session, or LoginFailed, and never the password in clear."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from mailmapd.databases.host_list import parse_host
from mailmapd.databases.mysql.account import Account
from mailmapd.databases.mysql.framing import encode_payload
from mailmapd.databases.mysql.library_login import LibraryLogin, LoginFailed
from support.hostile_database import CACHING, NATIVE, OK, SALT, SHA256, greeting, switch_to

PASSWORD = "s3cret-s3cret"
ADDRESS = parse_host("db.example.net:3306")


def said(*payloads: bytes) -> bytes:
    numbers = (0, 2, 4, 6, 8)
    return b"".join(
        [
            encode_payload(payload, number)
            for payload, number in zip(payloads, numbers, strict=False)
        ]
    )


SEEDS = (
    said(greeting(), OK),
    said(greeting(CACHING), b"\x01\x03"),
    said(greeting(CACHING), b"\x01\x04", b"\x01-----BEGIN PUBLIC KEY-----\n"),
    said(greeting(), switch_to(CACHING), b"\x01\x04"),
    said(greeting(), switch_to(SHA256), b"\x01-----BEGIN PUBLIC KEY-----\n"),
    said(greeting(), b"\xfemysql_clear_password\0"),
    said(greeting(), b"\xfe"),
    said(greeting(), b"\xff\x15\x04#28000Access denied"),
    b"\xff\xff\xff\0" + bytes(100),
)
TOKENS = (
    NATIVE,
    CACHING,
    SHA256,
    SALT,
    OK,
    b"\x01\x03",
    b"\x01\x04",
    b"\xfe",
    b"\xff",
    b"8.0.36\0",
)


class Transport:
    """Says that the other end is another host."""

    def get_extra_info(self, name: str) -> tuple[str, int]:
        """Return the address of one end."""
        return ("192.0.2.1", 3306) if name == "peername" else ("192.0.2.2", 40_000)

    def close(self) -> None:
        """End nothing."""

    abort = close


class Writer:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent = b""
        self.transport = Transport()

    def write(self, data: bytes) -> None:
        """Keep what would go out."""
        self.sent += data


class FedLogin(LibraryLogin):
    """A login whose server has said everything beforehand."""

    def __init__(self, data: bytes, *, any_key: bool) -> None:
        account = Account("mail", PASSWORD, "mail", None, get_server_public_key=any_key)
        super().__init__(ADDRESS, account, None)
        self._data = data
        self.kept = Writer()

    async def _connect(self) -> None:
        reader = asyncio.StreamReader(loop=loop)
        reader.feed_data(self._data)
        reader.feed_eof()
        self._reader = reader
        self._writer = self.kept  # type: ignore[assignment]  # what the login uses of a writer
        self._next_seq_id = 0
        await self._get_server_information()
        await self._request_authentication()


async def attempt(data: bytes, any_key: bool) -> None:
    login = FedLogin(data, any_key=any_key)
    try:
        await login.log_in()
    except LoginFailed:
        pass
    finally:
        login.abort()
    assert PASSWORD.encode() not in login.kept.sent


loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)  # a login asks for one, and has nothing to wait for


def finish(attempt: Coroutine[None, None, None]) -> None:
    """Run a coroutine that never waits, which takes a tenth of a loop's time."""
    try:
        attempt.send(None)
    except StopIteration:
        return
    raise AssertionError("the login waits for more than the server will ever say")


def check(data: bytes) -> None:
    finish(attempt(data, any_key=False))
    finish(attempt(data, any_key=True))
