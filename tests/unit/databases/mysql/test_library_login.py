"""Who counts as this host when a server asks for the password under its own key."""

from __future__ import annotations

from typing import Any

import pytest

from mailmapd.databases.this_host import is_this_host


@pytest.mark.parametrize(
    ("peer", "own"),
    [
        ("", ""),
        (("127.0.0.1", 3306), ("127.0.0.1", 40000)),
        (("127.8.0.1", 3306), ("127.0.0.1", 40000)),
        (("::1", 3306, 0, 0), ("::1", 40000, 0, 0)),
        (("::ffff:127.0.0.1", 3306, 0, 0), ("::ffff:127.0.0.1", 40000, 0, 0)),
        (("192.0.2.1", 3306), ("192.0.2.1", 40000)),
    ],
)
def test_this_host(peer: Any, own: Any) -> None:
    """A UNIX socket, a loopback address and an address that is also ours are this host."""
    assert is_this_host(peer, own)


@pytest.mark.parametrize(
    ("peer", "own"),
    [
        (("192.0.2.1", 3306), ("192.0.2.2", 40000)),
        (("fe80::1%eth0", 3306, 0, 2), ("fe80::2%eth0", 40000, 0, 2)),
        (("::ffff:192.0.2.1", 3306, 0, 0), ("::ffff:192.0.2.2", 40000, 0, 0)),
        (("198.51.100.7", 3306), ("127.0.0.1", 40000)),
        (None, ("127.0.0.1", 40000)),
        (("198.51.100.7", 3306), None),
        (None, None),
    ],
)
def test_another_host(peer: Any, own: Any) -> None:
    """Any other address is another host, a neighbour's included, and so is one that cannot be told any more."""
    assert not is_this_host(peer, own)
