"""Tells who is on this host: what is said to others there is heard by nobody else."""

from __future__ import annotations

import ipaddress
from typing import Any


def is_this_host(peer: Any, own: Any) -> bool:
    """Tell whether two ends of a connection, as the socket module names them, are on one host."""
    if isinstance(peer, str | bytes):
        return True  # a UNIX socket
    if not isinstance(peer, tuple) or not isinstance(own, tuple):
        return False  # it has gone already, and nobody can say who that was
    address = ipaddress.ip_address(peer[0].partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or peer[0] == own[0]
