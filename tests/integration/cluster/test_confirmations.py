"""Who has confirmed a flush: nobody is taken for somebody who has, whatever happens to records, keys and clocks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from support.fleet import Host, fleet, make_host
from support.mariadb import MariaDB
from support.polling import until
from support.valkey import Valkey

pytestmark = [pytest.mark.servers, pytest.mark.root]

EVERYTHING = {"all": True}
WAIT = 1.3  # seconds: longer than it takes until each host writes down where it is


async def known(host: Host, *names: str) -> None:
    """Wait until a host sees the records of others."""
    async with asyncio.timeout(10):
        while not set(names) <= set(await host.bus.reports.members()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("keys", [("a secret", "another"), ("", "another"), ("a secret", "")])
async def test_host_with_another_key(
    database: MariaDB, valkey: Valkey, tmp_path: Path, keys: tuple[str, str]
) -> None:
    """A host that does not believe what was said, because its key is another one, is not taken for one that has."""
    hosts = []
    for name, key in zip(("mx1", "mx2"), keys, strict=True):
        more = 'key_file = "own"\n' if key else ""
        (tmp_path / name).mkdir()
        (tmp_path / name / "own").write_text(key)
        host = make_host(name, tmp_path, database, valkey.url, follows=False, more=more)
        host.start()
        hosts.append(host)
    mx1, mx2 = hosts
    try:
        for host in hosts:
            await host.joined()
            await known(host, "mx1", "mx2")
        identity = await mx1.bus.flush(EVERYTHING)
        assert await mx1.bus.reports.unconfirmed(identity, WAIT) == ["mx2"]
    finally:
        await mx1.close()
        await mx2.close()


@pytest.mark.parametrize("asked", ["at once", "when this host has written its own again"])
async def test_records_that_were_lost(
    database: MariaDB, valkey: Valkey, tmp_path: Path, asked: str
) -> None:
    """When the server has lost all records, a host that is away is waited for all the same."""
    async with fleet(database, valkey.url, tmp_path, ["mx1", "mx2", "mx3"], set()) as hosts:
        mx1 = hosts["mx1"]
        await known(mx1, "mx1", "mx2", "mx3")
        await hosts["mx2"].bus.close()  # as if it were killed
        await hosts["mx3"].stop()
        await mx1.bus.reports.members()
        valkey.run("FLUSHALL")
        if asked != "at once":
            await until(lambda: bool(valkey.run("HEXISTS", "mailmapd:hosts", "mx1")))
        identity = await mx1.bus.flush(EVERYTHING)
        assert await mx1.bus.reports.unconfirmed(identity, 0.1) == ["mx2"]
        hosts["mx2"].start()
        assert await mx1.bus.reports.unconfirmed(identity, 5.0) == []


@pytest.mark.parametrize("days", [-2, 2])
async def test_host_whose_clock_is_wrong(
    database: MariaDB, valkey: Valkey, tmp_path: Path, days: int
) -> None:
    """A host whose clock is days off neither leaves the fleet for that, nor does it have the others leave."""
    async with fleet(database, valkey.url, tmp_path, ["mx1", "mx2", "mx3"], set()) as hosts:
        mx1 = hosts["mx1"]
        await known(mx1, "mx1", "mx2", "mx3")
        for name in ("mx2", "mx3"):
            await hosts[name].bus.close()
        record = json.loads(valkey.run("HGET", "mailmapd:hosts", "mx2"))
        record["at"] += days * 86_400.0
        valkey.run("HSET", "mailmapd:hosts", "mx2", json.dumps(record))
        identity = await mx1.bus.flush(EVERYTHING)
        assert await mx1.bus.reports.unconfirmed(identity, WAIT) == ["mx2", "mx3"]
