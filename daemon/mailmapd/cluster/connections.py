"""Connections to the server: at a path, at each address that a name has, or wherever Sentinels say that it is.

A name may have several addresses, of which one is the primary's. All connections go to the one that was reached last,
as long as the name still has it, so that what is told and what is read is told to and read from one server.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionFailed

from mailmapd.cluster.replies import Replies, facts
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.config.cluster_address import parse_cluster_url, parse_host_port
from mailmapd.databases.mysql.account import TlsContexts
from mailmapd.databases.settings import TlsSettings
from mailmapd.databases.this_host import is_this_host

CONNECT = 1.0  # seconds for a connection to an address, and for the login on it
WAIT = 1.0  # seconds for which who finds no connection free waits for one
MOST_CONNECTIONS = 8  # beside the one that waits for messages
_MOST_ADDRESSES = 4  # of a name, which are tried


_IN_THE_CLEAR = (
    "is another host, to which the password would go in the clear: write rediss:// and tls, or "
    "allow_plain_password = true on a network that is nobody else's"
)


class Addresses:
    """The addresses of a host, the one that was reached last at the head unless that was left."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._reached = ""
        self._is_left = False

    async def in_order(self) -> list[str]:
        """Return the addresses that the name has now. Raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        # Every host of the fleet begins with the same one
        addresses = sorted({str(place[0]) for *_, place in found})[:_MOST_ADDRESSES]
        first = 0
        if self._reached in addresses:
            first = addresses.index(self._reached) + self._is_left
        return addresses[first:] + addresses[:first]

    def reached(self, address: str) -> None:
        """Note that there is a server."""
        if address != self._reached:
            self._reached, self._is_left = address, False

    def leave(self) -> None:
        """Begin with another address next time: the server that was reached last is not the primary."""
        self._is_left = True


class Discreet(Connection):  # type: ignore[misc]  # redis-py has no types
    """A connection that gives the password in the clear to nobody but this host, unless with `plain_password`."""

    def __init__(self, *, plain_password: bool, **options: Any) -> None:
        super().__init__(**options)
        self._plain_password = plain_password

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Log in."""
        if self.password and not self._plain_password and self._is_heard_by_others():
            raise ConnectionFailed(_IN_THE_CLEAR)
        await super().on_connect_check_health(check_health=check_health)

    def _is_heard_by_others(self) -> bool:
        if self._writer is None:
            return True
        told = self._writer.get_extra_info
        return not (told("ssl_object") or is_this_host(told("peername"), told("sockname")))


class DiscreetBySentinel(SentinelManagedConnection, Discreet):  # type: ignore[misc]
    """The same to whichever server the Sentinels name: one on this host only if they are on this host, too.

    Whoever stands between could name a port of this host at which anybody listens.
    """

    def __init__(self, *, sentinels_are_here: bool, **options: Any) -> None:
        super().__init__(**options)
        self._sentinels_are_here = sentinels_are_here

    def _is_heard_by_others(self) -> bool:
        return not self._sentinels_are_here or super()._is_heard_by_others()


class Named(Discreet):
    """A connection to one of the addresses of a name, or to the one given as `only`."""

    def __init__(self, *, addresses: Addresses, only: str = "", **options: Any) -> None:
        super().__init__(host=addresses.host, port=addresses.port, **options)
        self._addresses = addresses
        self._only = only
        self._address = ""

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "host": self._address}

    async def _connect(self) -> None:
        failure: Exception = OSError(f"{self.host} has no address")
        async with asyncio.timeout(CONNECT):
            addresses = [self._only] if self._only else await self._addresses.in_order()
        for address in addresses:
            self._address = address
            try:
                await super()._connect()
            except (OSError, TimeoutError) as error:
                failure = error
                continue
            if not self._only:
                self._addresses.reached(address)
            return
        raise failure


class Encrypted(SSLConnection):  # type: ignore[misc]
    """A connection with a TLS context of ours. The library's own trusts the system's authorities beside any named."""

    def __init__(self, *, contexts: TlsContexts, tls: TlsSettings, **options: Any) -> None:
        super().__init__(**options)
        self._contexts = contexts
        self._tls = tls

    def _connection_arguments(self) -> Mapping[str, Any]:
        arguments = super(SSLConnection, self)._connection_arguments()
        return {**arguments, "ssl": self._contexts.of(self._tls)}


class EncryptedNamed(Named, Encrypted):
    """The same to one of the addresses of a name, which is the one that the certificate must have."""

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "server_hostname": self.host}


class EncryptedBySentinel(SentinelManagedConnection, Encrypted):  # type: ignore[misc]
    """The same to whichever server the Sentinels name."""


def _is_here(place: str) -> bool:
    """Return whether a place is one of this host, whatever names mean."""
    host = place.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Connections:
    """Makes clients of the library for the server of `settings`, each of which has connections of its own."""

    def __init__(self, settings: ClusterSettings) -> None:
        self.seconds = CONNECT * (1 + 2 * len(settings.sentinels))
        self._settings = settings
        self._contexts = TlsContexts()
        self._common: dict[str, Any] = {
            "password": settings.password or None,
            "username": settings.user,
            "socket_connect_timeout": CONNECT,
            "socket_timeout": None,  # each call has its own deadline
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "parser_class": Replies,
            "driver_info": None,  # no CLIENT SETINFO, which Redis 7.0 does not know, nor a least account may
        }
        self._addresses: Addresses | None = None
        self._sentinel: Sentinel | None = None
        if settings.sentinels:
            self._find_sentinels()
        elif not settings.url.startswith("unix:"):
            address = parse_cluster_url(settings.url)
            self._addresses = Addresses(address.host, address.port)
            self.seconds += CONNECT * _MOST_ADDRESSES

    def client(self, most: int = MOST_CONNECTIONS, **options: Any) -> Redis:
        """Return a client with `most` connections at most."""
        client = self._client(most, options)
        client.set_response_callback("INFO", facts)
        return client

    def _client(self, most: int, options: dict[str, Any]) -> Redis:
        options = self._common | options
        settings = self._settings
        if self._sentinel is not None:
            return self._sentinel.master_for(settings.service, **options)
        kind: type[Connection] = UnixDomainSocketConnection
        if self._addresses is None:
            options["path"] = parse_cluster_url(settings.url).path
        else:
            kind = Named
            address = parse_cluster_url(settings.url)
            options |= {"db": address.database, "socket_keepalive": True}
            options["addresses"] = self._addresses
            options["plain_password"] = settings.allow_plain_password
            if address.user:
                options["username"] = address.user
            if address.encrypted or settings.tls is not None:
                kind = EncryptedNamed
                options |= self._tls(settings.tls or TlsSettings())
        pool = BlockingConnectionPool(
            connection_class=kind, max_connections=most, timeout=WAIT, **options
        )
        return Redis(connection_pool=pool)

    async def each(self) -> Iterator[Redis]:
        """Return a client with one new connection for every address there is. Raises OSError, TimeoutError."""
        if self._addresses is None:
            return iter([self.client(1)])
        async with asyncio.timeout(CONNECT):
            found = sorted(await self._addresses.in_order())
        return (self.client(1, only=address) for address in found)

    def leave(self) -> None:
        """Connect to another address next time, if there is one."""
        if self._addresses is not None:
            self._addresses.leave()

    def prefer(self, client: Redis) -> None:
        """Connect from now on to the address of this client, which is one of `each`."""
        address = client.connection_pool.connection_kwargs.get("only", "")
        if self._addresses is not None and address:
            self._addresses.reached(address)

    def sentinels(self) -> list[Redis]:
        """Return the clients that ask the Sentinels."""
        return [] if self._sentinel is None else list(self._sentinel.sentinels)

    def _find_sentinels(self) -> None:
        settings = self._settings
        asked = self._common | {
            "username": None,
            "password": settings.sentinel_password or None,
            "socket_timeout": CONNECT,
        }
        if settings.tls is None:
            kind: type[Connection] = Discreet
            plain = {"plain_password": settings.allow_plain_password}
            asked |= plain
            self._common |= plain | {
                "connection_class": DiscreetBySentinel,
                "sentinels_are_here": all(map(_is_here, settings.sentinels)),
            }
        else:
            kind = Encrypted
            asked |= self._tls(settings.tls)
            self._common |= self._tls(settings.tls) | {"connection_class": EncryptedBySentinel}
        sentinel = self._sentinel = Sentinel((), sentinel_kwargs={})
        for place in settings.sentinels:
            host, port = parse_host_port(place)
            pool = BlockingConnectionPool(
                connection_class=kind,
                max_connections=MOST_CONNECTIONS,
                timeout=WAIT,
                host=host,
                port=port,
                **asked,
            )
            sentinel.sentinels.append(Redis(connection_pool=pool))

    def _tls(self, tls: TlsSettings) -> dict[str, Any]:
        return {"contexts": self._contexts, "tls": tls}
