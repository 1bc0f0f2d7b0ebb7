"""A failover that loses messages: what was shared before it is not believed, and is shared anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.cluster import exchange
from mailmapd.engine.invalidation import Invalidation
from mailmapd.model import Found
from support.fleet import SECOND_LEVEL, Host, fleet
from support.mariadb import MariaDB, private_directory
from support.polling import until
from support.settled import is_settled
from support.valkey import Sentinels

pytestmark = [pytest.mark.servers, pytest.mark.root]

KEY = b"a@example.com"


def has_told(follower: Host) -> bool:
    """Tell whether a follower has told everything that it has heard of, for the last time."""
    assert follower.following is not None
    publisher = follower.bus._publisher
    settled = all(is_settled(database) for database in follower.following.databases.values())
    return settled and not publisher._pending and not publisher._sending


async def test_failover(database: MariaDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new primary has an answer that was touched at the old one: nobody believes it."""
    monkeypatch.setattr(exchange, "DEADLINE", 10.0)
    with private_directory() as folder, Sentinels(folder) as sentinels:
        listed = ", ".join(f'"127.0.0.1:{port}"' for port in sentinels.ports)
        more = f'sentinels = [{listed}]\nservice = "mail"\n{SECOND_LEVEL}'
        async with fleet(database, "", tmp_path, ["mx1", "mx2"], {"mx1"}, more=more) as hosts:
            mx1, mx2 = hosts["mx1"], hosts["mx2"]
            await mx1.shares()
            await mx2.shares()
            assert await mx2.ask("alias", KEY) == Found(b"one")
            await until(lambda: mx2.second.exchange.counts["filled"] == 1)
            value, _ = mx2.second._sealer.answer(mx2.second._digests["alias"], KEY)
            await until(lambda: bool(sentinels.replica.run("EXISTS", value)))
            sentinels.replica.pause()
            sentinels.primary.run("CLIENT", "KILL", "TYPE", "replica")  # it hears no more
            database.run_sql("UPDATE t.alias SET goto = 'then' WHERE address = 'a@example.com'")
            await until(lambda: not mx2.held("alias", KEY))
            assert await mx2.ask("alias", KEY) == Found(b"then")
            await until(lambda: has_told(mx1), "the change was not told to its end")
            sentinels.primary.kill()
            sentinels.replica.resume()
            await until(lambda: mx2.bus.gaps == 1 and mx1.bus.gaps == 1)
            assert sentinels.replica.run("EXISTS", value), "so that this shows something"
            await mx1.shares()
            await mx2.shares()
            for host in (mx1, mx2):
                host.engine.apply(Invalidation("alias"))
                assert await host.ask("alias", KEY) == Found(b"then")
            assert mx1.second.counts()["disbelieved"] == 1
