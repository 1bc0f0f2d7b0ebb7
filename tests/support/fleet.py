"""Hosts of a fleet, each an engine with its part in the bus, side by side in one event loop.

    async with fleet(database, valkey.url, folder, ["mx1", "mx2"], followers={"mx1"}) as hosts:
        await hosts["mx2"].watched()
        await hosts["mx2"].ask("alias", b"a@example.com")

The clock of each host can be put forward: `host.clock.ahead` seconds of patience pass at once.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from mailmapd.changes.following import Following
from mailmapd.cluster.bus import Bus
from mailmapd.cluster.message import NotUnderstood
from mailmapd.cluster.part import Part
from mailmapd.cluster.reader import Position
from mailmapd.cluster.second_level import SecondLevel
from mailmapd.config.loader import load_config
from mailmapd.databases.settings import MysqlSettings
from mailmapd.engine.engine import Engine
from mailmapd.engine.flush import flush
from mailmapd.engine.orders import OrderError, decode_flush
from mailmapd.model import Answer
from mailmapd.plan.assembly import Plan, assemble, plan
from mailmapd.state.table_digest import shared_digests
from support.polling import until
from support.sql_server import SqlServer

SCHEMA = """
CREATE TABLE alias (address VARCHAR(99) PRIMARY KEY, goto VARCHAR(99), domain VARCHAR(99), KEY (domain));
CREATE TABLE users (name VARCHAR(99) PRIMARY KEY, hash VARCHAR(99));
"""
KEY = "a secret of thirty-two bytes, at least"
SECOND_LEVEL = 'second_level = true\nkey_file = "key"\n'
TABLES = {
    "alias": "SELECT goto FROM alias WHERE address = '%s'",
    "of_domain": "SELECT GROUP_CONCAT(goto ORDER BY address) FROM alias WHERE domain = '%d'",
}


def fill(server: SqlServer) -> None:
    """Make the database anew, with two rows."""
    server.run_sql("DROP DATABASE IF EXISTS t; CREATE DATABASE t")
    server.run_sql(SCHEMA, database="t")
    server.run_sql(
        "INSERT INTO alias VALUES ('a@example.com', 'one', 'example.com'),"
        " ('b@example.com', 'two', 'example.com')",
        database="t",
    )
    server.grant("mail", "p", "t")


class HostClock:
    """The machine's clock, `ahead` by some seconds."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return time.monotonic() + self.ahead


def configuration(folder: Path, hosts: str, tables: Mapping[str, str], cluster: str) -> str:
    """Return a configuration whose tables each have a map of their name."""
    maps = "".join(
        f'[table.{name}]\ndatabase = "mail"\nquery = """{query}"""\n'
        f'[map.{name}]\ntables = ["{name}"]\n'
        for name, query in tables.items()
    )
    return (
        f'[listen]\nsocketmap = ["unix:{folder}/s"]\ncontrol = "unix:{folder}/c"\n'
        f'[database.mail]\ndriver = "mysql"\nhosts = [{hosts}]\nuser = "mail"\npassword = "p"\n'
        f'dbname = "t"\n{cluster}\n{maps}'
    )


class _Counting:
    """Counts the queries of an engine's tables."""

    def __init__(self, engine: Engine) -> None:
        self.sent = 0
        for database in engine.databases.values():
            submit = database.submit

            def counted(statement: Any, done: Any, submit: Any = submit) -> None:
                self.sent += 1
                submit(statement, done)

            database.submit = counted  # type: ignore[method-assign]


class Host:
    """One host: its engine, what it follows if it does, and its part in the bus."""

    def __init__(self, name: str, planned: Plan, *, follows: bool) -> None:
        self.name = name
        self.plan = planned
        self.clock = HostClock()
        self.engine: Engine = assemble(planned, clock=self.clock).engine
        self.following: Following | None = None
        self.bus: Bus
        self._counting = _Counting(self.engine)
        self._follows = follows

    def start(self, position: Position | None = None) -> None:
        """Join."""
        settings = self.plan.databases["mail"]
        assert isinstance(settings, MysqlSettings)
        assert self.plan.cluster is not None
        databases = {"mail": (settings, self.plan.changes["mail"])}
        digests = shared_digests(self.plan)
        part = Part(self.engine, databases, digests, lambda: self.following, self._flush)
        second = None
        if self.plan.cluster.second_level:
            second = SecondLevel(self.plan.cluster, self.clock)
        self.bus = Bus(self.plan.cluster, part, self.clock, second)
        if self._follows:
            self.following = Following(self.engine, databases, self.clock, self)
            self.following.start()
        self.bus.start(position)

    async def stop(self, *, left: bool = True) -> None:
        """Leave."""
        if self.following is not None:
            await self.following.close()
            self.following = None
        await self.bus.close(left=left)

    async def close(self) -> None:
        """Leave, and close the databases."""
        await self.stop()
        await self.engine.close()

    def touched(self, touched: Any) -> None:
        """Hand on what the feed has heard."""
        self.bus.touched(touched)

    def changed(self) -> None:
        """Hand on that the feed is another one now."""
        self.bus.beat()

    async def ask(self, name: str, key: bytes) -> Answer:
        """Return the answer of a map."""
        return (await self.engine.maps[name].answer(key))[0]

    def held(self, name: str, key: bytes) -> bool:
        """Return whether memory has something under a SQL key of a table."""
        return self.engine.tables[name].cache.peek(key) is not None

    def fresh(self, name: str, key: bytes) -> float:
        """Return for how many seconds memory answers a key by itself; nothing or the past is 0."""
        entry = self.engine.tables[name].cache.peek(key)
        return 0.0 if entry is None else max(entry[1] - self.clock(), 0.0)

    def is_in_doubt(self, name: str, key: bytes) -> bool:
        """Return whether memory answers a key, and has it fetched anew when somebody asks."""
        now = self.clock()
        entry = self.engine.tables[name].cache.get(key, now)
        return entry is not None and entry[1] <= now

    def is_watched(self, name: str = "alias") -> bool:
        """Return whether a table is kept for long."""
        return self.engine.tables[name].watch is not None

    async def watched(self, name: str = "alias") -> None:
        """Wait until a table is kept for long."""
        await until(lambda: self.is_watched(name), f"{self.name}: {name} is not watched")

    async def unwatched(self, name: str = "alias") -> None:
        """Wait until a table is not kept for long any more."""
        await until(lambda: not self.is_watched(name), f"{self.name}: {name} is still watched")

    async def joined(self) -> None:
        """Wait until the stream is read."""
        await until(lambda: not self.bus.reason, f"{self.name} does not reach the server")

    @property
    def second(self) -> SecondLevel:
        """Return this host's part in the second level."""
        assert self.bus.second is not None
        return self.bus.second

    @property
    def selects(self) -> int:
        """Return how many queries its tables have sent to the database."""
        return self._counting.sent

    async def shares(self, name: str = "alias") -> None:
        """Wait until a table is kept for long and the second level can be asked."""
        await self.watched(name)
        await until(lambda: self.second.exchange.is_open, "the second level is not open")
        await until(lambda: self.bus.beliefs.place(name) is not None, "its place is not known")

    async def _flush(self, members: Mapping[str, Any]) -> None:
        try:
            await flush(self.engine, decode_flush(dict(members)), b"+")
        except OrderError as error:
            raise NotUnderstood(str(error)) from None


def make_host(
    name: str,
    folder: Path,
    server: SqlServer,
    url: str,
    *,
    follows: bool,
    hosts: Iterable[SqlServer | str] = (),
    tables: Mapping[str, str] = TABLES,
    more: str = "",
) -> Host:
    """Return a host that has not joined yet."""
    own = folder / name
    own.mkdir(exist_ok=True)
    places = [
        place if isinstance(place, str) else f"unix:{place.socket}" for place in hosts or (server,)
    ]
    servers = ", ".join(f'"{place}"' for place in places)
    follow = (
        'follow = "yes"\nuser = "replica"\npassword_file = "replica"'
        if follows
        else 'follow = "no"'
    )
    (own / "replica").write_text("follow it")
    (own / "key").write_text(KEY)
    place = f'url = "{url}"\n' if url else ""
    cluster = f'[database.mail.changes]\n{follow}\n[cluster]\n{place}host = "{name}"\n{more}'
    (own / "mailmapd.toml").write_text(configuration(own, servers, tables, cluster))
    return Host(name, plan(load_config(str(own / "mailmapd.toml"))), follows=follows)


@asynccontextmanager
async def fleet(
    server: SqlServer,
    url: str,
    folder: Path,
    names: Iterable[str],
    followers: Collection[str],
    **options: Any,
) -> AsyncIterator[dict[str, Host]]:
    """Run hosts that have joined one stream."""
    async with AsyncExitStack() as stack:
        hosts: dict[str, Host] = {}
        for name in names:
            host = make_host(name, folder, server, url, follows=name in followers, **options)
            host.start()
            stack.push_async_callback(host.close)
            hosts[name] = host
        for host in hosts.values():
            await host.joined()
        yield hosts
