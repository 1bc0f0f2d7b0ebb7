"""The bus on real servers: what one host hears of, all forget."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mailmapd.model import Found
from support.fleet import fleet
from support.mariadb import MariaDB, private_directory
from support.polling import until
from support.valkey import Kind, Valkey

pytestmark = [pytest.mark.servers, pytest.mark.root]


async def test_changes_reach_every_host(database: MariaDB, kind: Kind, tmp_path: Path) -> None:
    """A host that follows nothing keeps answers for a day, and forgets what a follower hears of."""
    with private_directory() as folder, Valkey(folder, kind=kind) as server:
        async with fleet(database, server.url, tmp_path, ["mx1", "mx2"], {"mx1"}) as hosts:
            mx1, mx2 = hosts["mx1"], hosts["mx2"]
            await mx2.watched()
            assert await mx2.ask("alias", b"a@example.com") == Found(b"one")
            assert await mx2.ask("alias", b"b@example.com") == Found(b"two")
            assert await mx2.ask("of_domain", b"x@example.com") == Found(b"one,two")
            assert mx2.fresh("alias", b"a@example.com") > 70_000
            database.run_sql("UPDATE t.alias SET goto = 'new' WHERE address = 'a@example.com'")
            await until(lambda: not mx2.held("alias", b"a@example.com"))
            assert await mx2.ask("alias", b"a@example.com") == Found(b"new")
            await until(lambda: not mx2.held("of_domain", b"example.com"))
            assert mx2.held("alias", b"b@example.com")
            assert mx1.bus.sent > 0


async def test_many_flushes_at_once(database: MariaDB, valkey: Valkey, tmp_path: Path) -> None:
    """A panel that sends hundreds of requests at a time is served, each of them."""
    async with fleet(database, valkey.url, tmp_path, ["mx1", "mx2"], {"mx1"}) as hosts:
        mx1, mx2 = hosts["mx1"], hosts["mx2"]
        await mx2.watched()
        await mx2.ask("alias", b"a@example.com")
        identities = await asyncio.gather(
            *[mx1.bus.flush({"user": f"u{number}@example.com"}) for number in range(300)]
        )
        late = await asyncio.gather(
            *[mx1.bus.reports.unconfirmed(last, 10.0) for last in identities[-50:]]
        )
        assert late == [[]] * 50
        assert mx2.held("alias", b"a@example.com")
        assert mx2.bus.counts["received"] >= len(identities)
