from __future__ import annotations

import socket
from typing import Any, cast

import pytest

from mailmapd.sockets.peers import peer_of


class Transport:
    """The transport of a client at an address."""

    def __init__(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._known: dict[str, Any] = {"socket": socket.socket(family), "peername": (address, 1)}
        self._known["socket"].close()

    def get_extra_info(self, name: str) -> Any:
        """Return what is known of it."""
        return self._known[name]


@pytest.mark.parametrize(
    ("address", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_who_is_one_peer(address: str, other: str, same: bool) -> None:
    """The addresses of one network of IPv6 are one peer; of IPv4 each is another."""
    made = [peer_of(cast("Any", Transport(text))) for text in (address, other)]
    assert (made[0] == made[1]) is same
