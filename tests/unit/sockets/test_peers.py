from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, cast

import pytest

from mailmapd.sockets.peers import Peers, peer_of
from support.strangers import connect_as_nobody


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


def test_whoever_cannot_be_told() -> None:
    """Where the kernel names nobody, nobody is let in, least of all as a user that there is not."""
    with socket.socket(socket.AF_UNIX) as unconnected:
        for users in (("no-such-user",), ("daemon",)):
            assert Peers(users).refusal(unconnected)


@pytest.mark.root
def test_large_numbers_of_users(short_path: Path) -> None:
    """A user id has 32 bits, as those have that directory services give."""
    path = short_path / "s"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        bound.listen()
        [client] = connect_as_nobody(path, 1, user=4_000_000_000)
        with client, bound.accept()[0] as accepted:
            assert Peers(("4000000000",)).refusal(accepted) == ""
            assert "user 4000000000" in Peers(("daemon",)).refusal(accepted)
