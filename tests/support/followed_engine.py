"""An engine over a real server whose log is followed, and what a test asks of it.

async with following(server, folder, ChangesSettings(), {"alias": "SELECT …"}) as bench:
await until(lambda: bench.database.lease.holds)
await bench.known("alias", b"a@example.com", Found(b"…"))
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mailmapd.changes.following import FollowedDatabase, Following
from mailmapd.config.loader import load_config
from mailmapd.databases.settings import ChangesSettings, MysqlSettings
from mailmapd.engine.engine import Engine
from mailmapd.model import Answer
from mailmapd.plan.assembly import assemble, plan
from support.sql_server import SqlServer

LONGEST = 30.0
"""Seconds after which a change that is not known will never be, however busy the machine is."""

BOTH = pytest.mark.parametrize("server", ["MariaDB", "MySQL 9"], indirect=True)
"""Runs a test on each of the two servers."""


class FollowedEngine:
    """An engine over the server, and what follows it."""

    def __init__(self, server: SqlServer, engine: Engine, following: Following) -> None:
        self.server = server
        self.engine = engine
        self.following = following

    @property
    def database(self) -> FollowedDatabase:
        """Return what follows the database."""
        return self.following.databases["mail"]

    async def ask(self, name: str, key: bytes) -> Answer:
        """Return the answer of a map."""
        return (await self.engine.maps[name].answer(key))[0]

    def held(self, name: str, key: bytes) -> bool:
        """Return whether memory has something under a SQL key of a table."""
        return self.engine.tables[name].cache.peek(key) is not None

    async def known(self, name: str, key: bytes, answer: Answer) -> float:
        """Wait until a map gives this answer; return for how many seconds that took.

        Nothing is waited for as long as the shortest time to live, so that nothing is known by its end.
        """
        began = time.perf_counter()
        while await self.ask(name, key) != answer:
            if time.perf_counter() - began > LONGEST:
                pytest.fail(f"{name} {key!r} is still {await self.ask(name, key)}")
            await asyncio.sleep(0.001)
        return time.perf_counter() - began


@asynccontextmanager
async def following(
    server: SqlServer,
    folder: Path,
    changes: ChangesSettings,
    tables: Mapping[str, str],
    host: str = "",
) -> AsyncIterator[FollowedEngine]:
    """Start an engine over the database `t`, with a map for each query, and follow what changes there.

    `host` is another way to the server than its UNIX socket.
    """
    maps = "".join(
        f"[table.{name}]\ndatabase = \"mail\"\nquery = '''{query}'''\n"
        f'[map.{name}]\ntables = ["{name}"]\n'
        for name, query in tables.items()
    )
    host = host or f"unix:{server.socket}"
    (folder / "mailmapd.toml").write_text(
        f'[listen]\nsocketmap = ["unix:{folder}/s"]\n[database.mail]\ndriver = "mysql"\n'
        f'hosts = ["{host or f"unix:{server.socket}"}"]\nuser = "mail"\npassword = "p"\ndbname = "t"\n{maps}'
    )
    planned = plan(load_config(str(folder / "mailmapd.toml")))
    settings = planned.databases["mail"]
    assert isinstance(settings, MysqlSettings)
    engine = assemble(planned).engine
    followed = Following(engine, {"mail": (settings, changes)}, time.monotonic)
    followed.start()
    try:
        yield FollowedEngine(server, engine, followed)
    finally:
        await followed.close()
        await engine.close()
