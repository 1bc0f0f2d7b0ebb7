"""Logs in to a server, within a time, and hands over the raw connection.

A `Session` is what comes of it: a transport in its command phase, before a protocol has taken it.
Lookups take it with `connection.MysqlConnection`; whoever wants another command's stream gives the
transport a protocol of its own and reads with `framing`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from mailmapd.databases.mysql.library_login import LibraryLogin, LoginFailed
from mailmapd.errors import DatabaseUnavailable

if TYPE_CHECKING:
    import ssl

    from mailmapd.databases.host_list import HostAddress
    from mailmapd.databases.mysql.account import Account


class LoginCut(DatabaseUnavailable):
    """The server let us in and ended the connection before it was of use: a restart, or a killed thread.

    The next attempt may succeed.
    """


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


async def log_in(
    address: HostAddress, account: Account, context: ssl.SSLContext | None, seconds: float
) -> Session:
    """Open a connection to a server and log in before the timeout. Raises DatabaseUnavailable."""
    label = address.label
    login: LibraryLogin | None = None
    try:
        login = LibraryLogin(address, account, context)
        async with asyncio.timeout(seconds):
            session = Session(*await login.log_in())
    except TimeoutError:
        raise DatabaseUnavailable(
            f"{label}: no login within connect_timeout ({seconds:g} s)", host=label
        ) from None
    except LoginFailed as error:
        kind = LoginCut if error.cut else DatabaseUnavailable
        raise kind(f"{label}: {error}", host=label) from error.__cause__
    else:
        login = None
        return session
    finally:
        if login is not None:
            login.abort()
