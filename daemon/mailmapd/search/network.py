"""Client addresses: the whole address, then its shorter prefixes (check_addr_access in smtpd)."""

from __future__ import annotations

import re
from collections.abc import Iterator

_IPV4_OCTETS = 4
_IPV6 = re.compile(rb"[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*").fullmatch


def is_address(name: bytes) -> bool:
    """Tell whether this is an IPv4 or IPv6 address and not a host name; ``0.1.2.3`` is a name, as in Postfix."""
    if b":" in name:
        return _IPV6(name) is not None
    parts = name.split(b".")
    if len(parts) != _IPV4_OCTETS or not all(part.isdigit() for part in parts):
        return False
    octets = [int(part) for part in parts]
    return max(octets) <= 255 and (octets[0] > 0 or not any(octets))


def address_and_networks(address: bytes) -> Iterator[bytes]:
    """Yield ``192.0.2.1``, ``192.0.2``, ``192.0``, ``192``, each shorter by one part.

    Of an IPv6 address: ``2001:db8::1``, ``2001:db8:``, ``2001:db8``, ``2001``.
    """
    separator = b":" if b":" in address else b"."
    while address:
        yield address
        address = address.rpartition(separator)[0]
