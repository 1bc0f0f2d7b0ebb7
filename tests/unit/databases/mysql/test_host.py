from __future__ import annotations

import random
from collections.abc import Sequence

from mailmapd.databases.host_list import parse_hosts
from mailmapd.databases.mysql.host import Host, HostGroups


def make(hosts: Sequence[str], replicas: Sequence[str] = ()) -> HostGroups:
    return HostGroups(parse_hosts(hosts), replicas, random.Random(1))


def labels(hosts: Sequence[Host]) -> list[str]:
    return [host.label for host in hosts]


def test_order() -> None:
    """Replicas come first, then UNIX sockets, then the others."""
    groups = make(["db1", "unix:/s", "db2", "db3"], replicas=["db3"])
    assert labels(groups.preferred) == ["db3"]
    assert labels(groups.in_order()) == ["db3", "unix:/s", "db1", "db2"]


def test_down() -> None:
    """A host that is down is not asked; the next group takes its place until it is back."""
    groups = make(["unix:/s", "db1", "db2"])
    local, first, second = groups.hosts
    groups.set_down(local, down=True)
    assert labels(groups.preferred) == ["db1", "db2"]
    groups.set_down(first, down=True)
    assert labels(groups.preferred) == ["db2"]
    groups.set_down(second, down=True)
    assert groups.preferred == []
    assert groups.to_connect(0.0) is None
    groups.set_down(local, down=False)
    assert labels(groups.preferred) == ["unix:/s"]


def test_connect_at_random() -> None:
    """New connections are spread over the hosts of a group."""
    groups = make(["db1", "db2", "db3"])
    chosen = [groups.to_connect(0.0) for _ in range(60)]
    assert {host.label for host in chosen if host} == {"db1", "db2", "db3"}


def test_stalled() -> None:
    """While a connection to the first host is long in coming, the next group is tried."""
    groups = make(["unix:/s", "db1"])
    groups.hosts[0].connecting = groups.hosts[0].stalled = 1
    assert groups.to_connect(0.0) is groups.hosts[1]


def test_paused() -> None:
    """A host that refuses more connections is left with those it has for a while, unless it has none."""
    groups = make(["db1"])
    host = groups.hosts[0]
    host.paused_until = 1.0
    assert groups.to_connect(0.0) is host
    host.connecting = 1
    assert groups.to_connect(0.0) is None
    assert groups.to_connect(1.0) is host


def test_reasons() -> None:
    """The reason for no host is each host's last error."""
    groups = make(["db1", "db2"])
    groups.hosts[0].last_error = "db1: refused"
    groups.hosts[1].last_error = "db2: timed out"
    assert groups.why_down() == "db1: refused; db2: timed out"
    assert [
        (status.host, status.up, status.last_error) for status in map(Host.status, groups.hosts)
    ] == [
        ("db1", True, "db1: refused"),
        ("db2", True, "db2: timed out"),
    ]
