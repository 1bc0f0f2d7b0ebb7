"""An address of a database that comes to lead to another server, while connections to the one before live on."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.changes import followed_host
from mailmapd.cluster import watching
from mailmapd.model import Found
from support.fleet import fill, make_host
from support.followed import LOGGED, grant_replication
from support.mariadb import MariaDB, private_directory
from support.polling import until
from support.proxy import Proxy
from support.valkey import Valkey

pytestmark = [pytest.mark.servers, pytest.mark.root]

KEY = b"a@example.com"
CHANGED = b"b@example.com"
ORDINARY = 301.0  # seconds: more than ttl


async def test_address_of_a_database(
    valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose lookups may reach another server than the one that is followed keeps nothing for long."""
    monkeypatch.setattr(followed_host, "COMPARE", 0.05)
    monkeypatch.setattr(watching, "COMPARE", 0.05)
    with (
        private_directory() as folder,
        private_directory() as other,
        MariaDB(folder, tcp=True, settings=LOGGED) as first,
        MariaDB(other, tcp=True, settings=[*LOGGED, "--server-id=2"]) as second,
        Proxy(first.port) as address,
    ):
        for server in (first, second):
            grant_replication(server)
            fill(server)
        places = [f"127.0.0.1:{address.port}"]
        hosts = [
            make_host("mx0", tmp_path, first, valkey.url, follows=True),
            make_host("mx1", tmp_path, first, valkey.url, follows=True, hosts=places),
            make_host("mx2", tmp_path, first, valkey.url, follows=False, hosts=places),
        ]
        try:
            compare = followed_host.FollowedHost.compare

            async def and_back(self: followed_host.FollowedHost, identity: tuple[str, ...]) -> None:
                """Have the address lead back as soon as everybody has noticed that it has led elsewhere."""
                try:
                    await compare(self, identity)
                except followed_host.OtherServer:
                    await until(lambda: hosts[2].fresh("alias", KEY) < ORDINARY, "it is believed")
                    address.aim(first.port)
                    raise

            monkeypatch.setattr(followed_host.FollowedHost, "compare", and_back)
            for host in hosts:
                host.start()
            for host in hosts:
                await host.watched()
                assert await host.ask("alias", KEY) == Found(b"one")
                assert host.fresh("alias", KEY) > ORDINARY
                await host.ask("alias", CHANGED)
            first.run_sql("UPDATE t.alias SET goto = 'new' WHERE address = 'b@example.com'")
            for host in hosts:  # so that there is something to go on from
                await until(lambda host=host: not host.held("alias", CHANGED))  # type: ignore[misc]
            address.aim(second.port)
            for host in hosts[1:]:
                await until(lambda host=host: host.fresh("alias", KEY) < ORDINARY, "it is believed")  # type: ignore[misc]
            follower = hosts[1].following
            assert follower is not None
            await until(lambda: not follower.databases["mail"].holds)
            await until(lambda: follower.databases["mail"].holds)
            for host in hosts[1:]:  # where nobody says what the other server had when it was asked
                await host.watched()
                assert host.fresh("alias", KEY) < ORDINARY
        finally:
            for host in hosts:
                await host.close()
