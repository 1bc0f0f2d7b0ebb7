"""The border to aiomysql: it opens the socket, encrypts it and logs in; what it raises ends here.

After the login the transport is handed to a protocol of ours (see `mysql_wire` for why), so of
aiomysql this module uses: the constructor, `client_flag`, `server_capabilities`, `server_version`,
`close`, and, not part of its documented interface, `_connect`, `_writer`, `_reader`,
`_get_server_information`, `_process_auth`, `sha256_password_auth`, `write_packet`, `_secure`,
`_ssl_context`, `_server_auth_plugin`, `salt`. tests/integration/databases/test_mysql_login.py pins
what is expected of them.

Five of aiomysql's ways are mended here. It would let a server that offers no TLS have the login in
clear; it would send the password in clear to any server that asks for it; it turns MULTI_STATEMENTS
on, which Postfix's client leaves off because it lets an injection grow a tail; it takes the NUL
behind the salt of a server that switches methods for a part of it, so that caching_sha2_password
always goes the long way; and it takes a UNIX socket for encrypted, which sha256_password does not.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any, cast

import aiomysql
from pymysql.charset import charset_by_name
from pymysql.constants import CLIENT

from mailmapd.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from mailmapd.databases.host_list import HostAddress
    from mailmapd.databases.mysql.account import Account

LOGIN_CHARSET = "utf8mb4"
"""What names and errors are encoded in while logging in; the session's own character set is chosen afterwards."""

_PLUGINS = ("mysql_native_password", "caching_sha2_password", "sha256_password")
"""The ways to log in that aiomysql knows and that do not give the password to whoever asks."""

_SALT_SIZE = 20
"""The length of the server's random bytes, without the NUL that may follow."""

_KEY_REQUESTS = (b"\x01", b"\x02")
"""How sha256_password and caching_sha2_password ask for the server's public key."""

_KEYLESS = (
    "; the server gave no key to encrypt the password with: configure tls, or use its "
    "UNIX socket with caching_sha2_password"
)

_CUT = (2006, 2013, 1927)
"""Error numbers of a connection that ended while logging in."""


class LoginCut(DatabaseUnavailable):
    """The server let us in and ended the connection before it was of use: a restart, or a killed thread.

    The next attempt may succeed.
    """


class _Refused(Exception):
    """We end the login, for a reason that the text gives."""


class Session:
    """A logged-in connection, before a protocol has taken its transport.

    The stream writer is kept as long as the session, because it warns about a transport that it was not told to close.
    """

    def __init__(self, server_version: str, writer: asyncio.StreamWriter) -> None:
        self.server_version = server_version
        self.transport = cast("asyncio.Transport", writer.transport)
        self._writer = writer

    @property
    def is_mariadb(self) -> bool:
        """Tell MariaDB from MySQL, whose session variables differ."""
        return "mariadb" in self.server_version.lower()


class _Login(aiomysql.Connection):  # type: ignore[misc]  # aiomysql has no types
    """aiomysql's connection, stricter about what the server may ask for."""

    _server_auth_plugin: str
    _writer: asyncio.StreamWriter | None
    _salt: bytes | None
    asked_for_key = False
    """Whether the last packet was the request for the key that the password goes under."""

    @property
    def salt(self) -> bytes | None:
        """The server's random bytes, which the password is mixed with."""
        return self._salt

    @salt.setter
    def salt(self, value: bytes | None) -> None:
        self._salt = value and value[:_SALT_SIZE]

    async def log_in(self) -> None:
        """Connect and log in."""
        await self._connect()

    def release(self) -> Session:
        """Give the transport away; the object is of no use afterwards."""
        writer, self._writer, self._reader = self._writer, None, None
        if writer is None:
            raise _Refused("the connection was closed while logging in")
        return Session(self.server_version, writer)

    def abort(self) -> None:
        """End the connection at once: the farewell of TLS would keep it until the server answers."""
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.transport.abort()

    async def _get_server_information(self) -> None:
        """Read the greeting, and refuse a server that would take the login unencrypted."""
        await super()._get_server_information()
        if self._ssl_context and not self.server_capabilities & CLIENT.SSL:
            raise _Refused(
                "TLS is configured, but the server offers none; give the server a certificate, "
                "or remove tls from this database"
            )
        if self._server_auth_plugin not in _PLUGINS:
            # The server will ask to switch if the account really wants another one.
            self._server_auth_plugin = _PLUGINS[0]

    async def _process_auth(self, plugin_name: bytes, auth_packet: Any) -> Any:
        """Follow the server to another way of logging in, if it is a known and safe one."""
        plugin = plugin_name.decode("ascii", "backslashreplace")
        if plugin not in _PLUGINS:
            raise _Refused(
                f"the server wants the login method {plugin}, which is not supported; give the "
                f"database user {_PLUGINS[0]} or {_PLUGINS[1]}"
            )
        return await super()._process_auth(plugin_name, auth_packet)

    def write_packet(self, payload: bytes) -> None:
        """Send a packet."""
        self.asked_for_key = payload in _KEY_REQUESTS
        super().write_packet(payload)

    async def sha256_password_auth(self, pkt: Any) -> Any:
        """Give the password in clear over TLS only, and under the server's key over anything else."""
        self._secure = self._ssl_context is not None
        return await super().sha256_password_auth(pkt)


def column_encoding(charset: str) -> str:
    """Return Python's name for a MySQL character set, for column names; UTF-8 for those that Python does not have."""
    try:
        return codecs.lookup(charset_by_name(charset).encoding).name
    except (AttributeError, LookupError):
        return "utf-8"


async def log_in(
    address: HostAddress, account: Account, context: ssl.SSLContext | None, seconds: float
) -> Session:
    """Open a connection to a server and log in, within so many seconds. Raises DatabaseUnavailable."""
    label = address.label
    connection: _Login | None = None
    try:
        connection = _Login(
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
        )
        connection.client_flag &= ~CLIENT.MULTI_STATEMENTS
        async with asyncio.timeout(seconds):
            await connection.log_in()
        session = connection.release()
    except TimeoutError:
        raise DatabaseUnavailable(
            f"{label}: no login within connect_timeout ({seconds:g} s)", host=label
        ) from None
    except _Refused as error:
        raise DatabaseUnavailable(f"{label}: {error}", host=label) from None
    except Exception as error:
        # Whatever aiomysql and cryptography make of another side that is no MySQL server, or a
        # variant that they do not know. An exception
        # that went further would end the probe of a host that is down, and with it the way back.
        kind = (
            LoginCut
            if isinstance(error, aiomysql.Error) and error.args and error.args[0] in _CUT
            else DatabaseUnavailable
        )
        advice = (
            _KEYLESS
            if kind is DatabaseUnavailable and connection is not None and connection.asked_for_key
            else ""
        )
        raise kind(f"{label}: {_reason(error)}{advice}", host=label) from error
    else:
        connection = None
        return session
    finally:
        if connection is not None:
            connection.abort()


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
