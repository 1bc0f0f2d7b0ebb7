"""The border to aiomysql: it opens the socket, encrypts it and logs in. No other module knows it or PyMySQL.

After the login the transport is handed to a protocol of ours (see `framing` for why), so of aiomysql
this module uses: the constructor, `client_flag`, `server_capabilities`, `server_version`,
`server_public_key`, and, not part of its documented interface, `_connect`, `_writer`, `_reader`,
`_read_bytes`, `_get_server_information`, `_process_auth`, `sha256_password_auth`, `write_packet`,
`_secure`, `_ssl_context`, `_server_auth_plugin`, `salt`. A test logs in by every method with the oldest
and the newest aiomysql that pyproject.toml allows.

What it does otherwise than aiomysql, because the other side may be anybody:

* a server that offers no TLS does not get a login in clear where TLS is configured;
* no method gives the password to whoever asks: mysql_clear_password and the one from before 4.1 are
  refused, and a key of the server's own is taken over plain TCP from this host only, unless the
  configuration names the key or accepts any;
* all that a server sends before the login is over fits in `MAX_LOGIN` bytes;
* MULTI_STATEMENTS stays off, as in Postfix's client: it lets an injection grow a tail;
* a UNIX socket is not encryption, which sha256_password relies on, and the NUL behind the salt of a
  server that switches methods is no part of it.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any

import aiomysql
from pymysql.charset import charset_by_name
from pymysql.constants import CLIENT

from mailmapd.databases.this_host import is_this_host

if TYPE_CHECKING:
    from mailmapd.databases.host_list import HostAddress
    from mailmapd.databases.mysql.account import Account

LOGIN_CHARSET = "utf8mb4"
"""The encoding of names and errors while logging in; the session's own character set is chosen afterwards."""

MAX_LOGIN = 64 * 1024
"""Bytes that a server may send until the login is over, headers included. A real one needs less than 2 KiB."""

_PLUGINS = ("mysql_native_password", "caching_sha2_password", "sha256_password")
"""The ways to log in that aiomysql knows and that do not give the password to whoever asks."""

_NEEDED = CLIENT.PROTOCOL_41 | CLIENT.SECURE_CONNECTION | CLIENT.PLUGIN_AUTH
"""Capabilities of every server since MySQL 5.5.7 and MariaDB 5.2; without, the password would travel as before 4.1."""

_SALT_SIZE = 20
"""The length of the server's random bytes, without the NUL that may follow."""

_KEY_REQUESTS = (b"\x01", b"\x02")
"""Requests of sha256_password and caching_sha2_password for the server's public key."""

_STRANGER = (
    "the server wants the password under a key of its own, over plain TCP from another host, where "
    "anybody could have sent that key: configure tls, or name the key's file in server_public_key, "
    "or accept any key with get_server_public_key = true"
)

_KEYLESS = (
    "; the server gave no key to encrypt the password with: configure tls, or use its "
    "UNIX socket with caching_sha2_password"
)

_CUT = (2006, 2013, 1927)
"""Error numbers of a connection that ended while logging in."""


class LoginFailed(Exception):
    """The login came to nothing, for a reason that the text gives; `cut` says that the connection just ended."""

    def __init__(self, reason: str, *, cut: bool = False) -> None:
        super().__init__(reason)
        self.cut = cut


class LibraryLogin(aiomysql.Connection):  # type: ignore[misc]  # aiomysql has no types
    """aiomysql's connection, stricter about what the server may ask for."""

    _server_auth_plugin: str
    _reader: asyncio.StreamReader | None
    _writer: asyncio.StreamWriter | None
    _salt: bytes | None

    def __init__(
        self, address: HostAddress, account: Account, context: ssl.SSLContext | None
    ) -> None:
        super().__init__(
            host=address.name or "localhost",
            port=address.port,
            unix_socket=address.path or None,
            user=account.user or None,
            # aiomysql encodes it as latin1; a password is bytes, those of its UTF-8 form.
            password=account.password.encode("utf-8", "surrogateescape").decode("latin1"),
            db=account.dbname or None,
            charset=LOGIN_CHARSET,
            ssl=None if address.is_local else context,
            program_name="mailmapd",
            autocommit=None,
            server_public_key=account.server_public_key,
        )
        self.client_flag &= ~CLIENT.MULTI_STATEMENTS
        self._takes_any_key = account.get_server_public_key
        self._asked_for_key = False
        self._received = 0

    async def log_in(self) -> tuple[str, asyncio.StreamWriter]:
        """Connect and log in; return the server's version and the connection, which is the caller's then.

        Raises LoginFailed.
        """
        try:
            await self._connect()
        except LoginFailed:
            raise
        except Exception as error:
            # Whatever aiomysql and cryptography make of another side that is no MySQL server, or a
            # variant that they do not know. An exception that went further would end the probe of a
            # host that is down, and with it the way back.
            cut = isinstance(error, aiomysql.Error) and bool(error.args) and error.args[0] in _CUT
            advice = _KEYLESS if self._asked_for_key and not cut else ""
            raise LoginFailed(_reason(error) + advice, cut=cut) from error
        writer, self._writer, self._reader = self._writer, None, None
        if writer is None:
            raise LoginFailed("the connection was closed while logging in", cut=True)
        return self.server_version, writer

    def abort(self) -> None:
        """End the connection at once: the farewell of TLS would keep it until the server answers."""
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.transport.abort()

    # What aiomysql calls, and we call it better

    @property
    def salt(self) -> bytes | None:
        """Return the server's random bytes, which the password is mixed with."""
        return self._salt

    @salt.setter
    def salt(self, value: bytes | None) -> None:
        self._salt = value and value[:_SALT_SIZE]

    async def _read_bytes(self, num_bytes: int) -> Any:
        """Read `num_bytes`, if the login is still within its limit with them."""
        self._received += num_bytes
        if self._received > MAX_LOGIN:
            raise LoginFailed(f"the server sends more than {MAX_LOGIN} bytes before the login ends")
        return await super()._read_bytes(num_bytes)

    async def _get_server_information(self) -> None:
        """Read the greeting, and refuse a server that would take the login unencrypted."""
        await super()._get_server_information()
        if self._ssl_context and not self.server_capabilities & CLIENT.SSL:
            raise LoginFailed(
                "TLS is configured, but the server offers none; give the server a certificate, "
                "or remove tls from this database"
            )
        if self.server_capabilities & _NEEDED != _NEEDED:
            raise LoginFailed("the server knows only the logins of MySQL 4, which are not safe")
        if self._server_auth_plugin not in _PLUGINS[:2]:
            # The server asks to switch if the account really wants another one. For sha256_password
            # that is needed: aiomysql would take any key in the first answer, even if it has one.
            self._server_auth_plugin = _PLUGINS[0]

    async def _process_auth(self, plugin_name: bytes, auth_packet: Any) -> Any:
        """Follow the server to another way of logging in, if it is a known and safe one."""
        plugin = plugin_name.decode("ascii", "backslashreplace")
        if plugin not in _PLUGINS:
            raise LoginFailed(
                f"the server wants the login method {plugin}, which is not supported; give the "
                f"database user {_PLUGINS[0]} or {_PLUGINS[1]}, or on this host unix_socket"
            )
        return await super()._process_auth(plugin_name, auth_packet)

    def write_packet(self, payload: bytes) -> None:
        """Send a packet, unless it asks a stranger for the key that the password goes under."""
        self._asked_for_key = payload in _KEY_REQUESTS
        if self._asked_for_key and not (self._takes_any_key or self._is_on_this_host()):
            raise LoginFailed(_STRANGER)
        super().write_packet(payload)

    async def sha256_password_auth(self, pkt: Any) -> Any:
        """Give the password in clear over TLS only, and under the server's key over anything else."""
        self._secure = self._ssl_context is not None
        return await super().sha256_password_auth(pkt)

    def _is_on_this_host(self) -> bool:
        """Tell whether the other end of the connection is on this host."""
        if self._unix_socket:
            return True
        if self._writer is None:
            return False
        transport = self._writer.transport
        return is_this_host(
            transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        )


def column_encoding(charset: str) -> str:
    """Return Python's name for a MySQL character set, for column names; UTF-8 for those that Python does not have."""
    try:
        return codecs.lookup(charset_by_name(charset).encoding).name
    except (AttributeError, LookupError):
        return "utf-8"


def _reason(error: Exception) -> str:
    """Return what kept us from logging in."""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"TLS: the server's certificate is refused: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS: {cause.reason or cause}"
    if isinstance(cause, TimeoutError):
        return "cannot connect: timed out"
    if isinstance(cause, socket.gaierror) or (isinstance(cause, OSError) and not cause.errno):
        return f"cannot connect: {cause.strerror or cause}"
    if isinstance(cause, OSError) and cause.errno:
        # asyncio's own text repeats the address.
        return f"cannot connect: {os.strerror(cause.errno)}"
    if isinstance(error, aiomysql.Error) and len(error.args) > 1 and isinstance(error.args[0], int):
        return f"{error.args[1]} (error {error.args[0]})"
    return f"this does not look like a MySQL server ({type(error).__name__})"
