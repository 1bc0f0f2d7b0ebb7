from __future__ import annotations

import pytest

from mailmapd.databases.host_list import HostAddress, parse_host, parse_hosts


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (
            "unix:/run/mysqld/mysqld.sock",
            HostAddress("unix:/run/mysqld/mysqld.sock", path="/run/mysqld/mysqld.sock"),
        ),
        ("localhost", HostAddress("localhost")),
        ("LOCALHOST:3307", HostAddress("LOCALHOST:3307")),
        ("inet:localhost", HostAddress("inet:localhost")),
        ("db.example.net", HostAddress("db.example.net", name="db.example.net", port=3306)),
        (
            "inet:db.example.net:3307",
            HostAddress("inet:db.example.net:3307", name="db.example.net", port=3307),
        ),
        ("127.0.0.1:mysql", HostAddress("127.0.0.1:mysql", name="127.0.0.1", port=3306)),
        ("[::1]:3307", HostAddress("[::1]:3307", name="::1", port=3307)),
        ("[2001:db8::7]", HostAddress("[2001:db8::7]", name="2001:db8::7", port=3306)),
        ("2001:db8::7", HostAddress("2001:db8::7", name="2001:db8::7", port=3306)),
    ],
)
def test_forms(text: str, address: HostAddress) -> None:
    """Every form of mysql_table(5), and IPv6, names the address that the client library would use."""
    assert parse_host(text) == address


@pytest.mark.parametrize(
    ("text", "moves"),
    [
        ("db.example.net", True),
        ("inet:db:3307", True),
        ("192.0.2.7", False),
        ("[2001:db8::7]:3306", False),
        ("localhost", False),
        ("unix:/run/db", False),
    ],
)
def test_names_may_move(text: str, moves: bool) -> None:
    """A name may lead elsewhere one day, an address or a UNIX socket not."""
    assert parse_host(text).may_move is moves


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("/run/mysqld/mysqld.sock", "write unix:/run/mysqld/mysqld.sock"),
        ("unix:mysqld.sock", "full path"),
        ("db:0", "from 1 to 65535"),
        ("db:65536", "from 1 to 65535"),
        ("db:no-such-service", "port's number"),
        ("a b", "not a host name"),
        ("", "not a host name"),
    ],
)
def test_faults(text: str, remedy: str) -> None:
    """What is no host says what to write instead."""
    with pytest.raises(ValueError, match=remedy):
        parse_host(text)


def test_list() -> None:
    """A list names each host once; an empty one means localhost, as for Postfix."""
    assert [host.label for host in parse_hosts(["db1", "db2", "db1"])] == ["db1", "db2"]
    assert [host.label for host in parse_hosts([])] == ["localhost"]


def test_local() -> None:
    """UNIX sockets are local, everything else is not."""
    assert [parse_host(text).is_local for text in ("unix:/s", "localhost", "127.0.0.1")] == [
        True,
        True,
        False,
    ]
