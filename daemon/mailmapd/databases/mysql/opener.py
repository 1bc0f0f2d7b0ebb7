"""Opens connections that are ready for lookups: logged in, and with the session's settings made."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING

from mailmapd.databases.mysql.account import TlsContexts, account_for
from mailmapd.databases.mysql.connection import ConnectionOwner, MysqlConnection, PreparingOwner
from mailmapd.databases.mysql.identity import identity_query, read_identity
from mailmapd.databases.mysql.library_login import column_encoding
from mailmapd.databases.mysql.login import log_in
from mailmapd.errors import DatabaseUnavailable
from mailmapd.template.sql_quoting import make_quote

if TYPE_CHECKING:
    from mailmapd.databases.host_list import HostAddress
    from mailmapd.databases.settings import MysqlSettings, TlsSettings

log = logging.getLogger(__name__)

_READ_ONLY = "SET SESSION TRANSACTION READ ONLY"


class MysqlOpener:
    """Opens connections for one database. Raises ValueError for a character set that no connection can have.

    While it `identifies`, each connection knows its server's identity.
    """

    def __init__(self, settings: MysqlSettings) -> None:
        make_quote(settings.charset, no_backslash_escapes=False)
        self._settings = settings
        self._encoding = column_encoding(settings.charset)
        self._contexts = TlsContexts()
        self.identifies = False  # each server is asked who it is

    async def open(
        self,
        address: HostAddress,
        owner: ConnectionOwner,
        *,
        limit_queries: bool = True,
        longest: float | None = None,
    ) -> MysqlConnection:
        """Return a connection that belongs to `owner`, within connect_timeout. Raises DatabaseUnavailable.

        `limit_queries` has the server end a query after `longest` seconds (query_timeout), so that what
        we no longer wait for does not go on there.
        """
        settings = self._settings
        target, account = account_for(address, settings)
        context = self._context(target, account.tls)
        preparing = PreparingOwner()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + settings.connect_timeout
        session = await log_in(target, account, context, settings.connect_timeout)
        connection = MysqlConnection(
            session,
            preparing,
            host=address.label,
            charset=settings.charset,
            encoding=self._encoding,
        )
        try:
            async with asyncio.timeout_at(deadline):
                limit = (longest or settings.query_timeout) if limit_queries else None
                await self._prepare(connection, preparing, limit)
                if self.identifies:
                    await _identify(connection, preparing)
        except TimeoutError:
            connection.abort()
            text = f"{address.label}: the session was not ready within connect_timeout ({settings.connect_timeout:g} s)"
            raise DatabaseUnavailable(text, host=address.label) from None
        except BaseException:
            connection.abort()
            raise
        connection.owner = owner
        return connection

    async def _prepare(
        self, connection: MysqlConnection, preparing: PreparingOwner, seconds: float | None
    ) -> None:
        """Make the session's settings.

        What the answers depend on must succeed, what only protects the server may fail.
        """
        refusal = await preparing.run(
            connection, f"SET NAMES {self._settings.charset}, autocommit = 1"
        )
        if refusal is not None:
            text = f"{connection.host}: character set {self._settings.charset}: {refusal.text} (error {refusal.code})"
            raise DatabaseUnavailable(text, host=connection.host)
        wishes = []
        if self._settings.read_only:
            wishes.append(_READ_ONLY)
        if seconds is not None:
            in_ms = max(1, round(seconds * 1000))
            limit = (
                f"max_statement_time = {seconds:.3f}"
                if connection.is_mariadb
                else f"max_execution_time = {in_ms}"
            )
            wishes.append(f"SET SESSION {limit}")
        for wish in wishes:
            refusal = await preparing.run(connection, wish)
            if wish == _READ_ONLY:
                connection.read_only = refusal is None
            if refusal is not None:
                log.debug("%s does not take %r: error %d", connection.host, wish, refusal.code)

    def _context(self, address: HostAddress, tls: TlsSettings | None) -> ssl.SSLContext | None:
        """Return the TLS context. Raises DatabaseUnavailable when a file cannot be used."""
        if tls is None or address.is_local:
            return None
        try:
            return self._contexts.of(tls)
        except OSError as error:
            text = (
                f"{address.label}: TLS files (ca {tls.ca}, cert {tls.cert}, key "
                f"{tls.key}): {error.strerror or error}"
            )
            raise DatabaseUnavailable(text, host=address.label) from error


async def _identify(connection: MysqlConnection, preparing: PreparingOwner) -> None:
    """Ask a server who it is. Raises DatabaseUnavailable."""
    refusal = await preparing.run(connection, identity_query(is_mariadb=connection.is_mariadb))
    if refusal is not None:
        text = f"{connection.host}: it does not say which server it is: {refusal.text} (error {refusal.code})"
        raise DatabaseUnavailable(text, host=connection.host)
    connection.identity = read_identity(connection.reader.take_rows())
