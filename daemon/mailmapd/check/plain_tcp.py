"""Connections that others may listen to: plain TCP to another host, and TLS with whoever answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

from mailmapd.check.finding import Finding, Level
from mailmapd.databases.host_list import parse_hosts
from mailmapd.databases.mysql.account import account_for
from mailmapd.databases.settings import MysqlSettings, TlsSettings
from mailmapd.errors import DatabaseUnavailable


async def plain_tcp_findings(name: str, settings: MysqlSettings) -> AsyncIterator[Finding]:
    """Yield the hosts whose answers travel where others may read or change them."""
    for configured in parse_hosts(settings.hosts):
        try:
            address, account = account_for(configured, settings)
        except DatabaseUnavailable:
            continue  # the login itself says so
        if address.is_local or await is_this_host(address.name, address.port):
            continue
        where = f"database {name}"
        if account.tls is None:
            problem = (
                f"{address.name} is another host, and the connection is plain TCP: whoever is "
                "between reads and changes answers"
            )
            if account.get_server_public_key:
                problem += ", and may ask for the password (get_server_public_key)"
            yield Finding(Level.WARNING, "plain_tcp", where, problem, 'set tls = {ca = "…"}')
        elif takes_any_certificate(account.tls):
            yield any_certificate(where, address.name)


def takes_any_certificate(tls: TlsSettings) -> bool:
    """Tell whether no certificate of a server would be refused."""
    return not (tls.verify or tls.ca or tls.ca_path)


def any_certificate(where: str, server: str) -> Finding:
    """Return the finding about TLS with whoever answers."""
    problem = f"TLS with {server} takes any certificate: whoever is between may show one of his own"
    return Finding(Level.WARNING, "any_certificate", where, problem, 'set tls = {ca = "…"}')


async def is_this_host(name: str, port: int) -> bool:
    """Tell whether a name leads to this host only."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # none that there is, or that can be
        return False
    return all(_is_own(family, target[0]) for family, _, _, _, target in found)


def _is_own(family: int, address: str | int) -> bool:
    """Tell whether an IP address is one of this host's: only those can be bound."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
