"""The oracle: at rest, whatever memory keeps for longer than the ordinary time is what the database says.

Six installations' maps and some logins over one server, each database followed by the daemon's own parts; writers and
lookups at random, in rounds. After each round everything comes to rest, and every entry is asked for anew.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from mailmapd.cache.table_cache import ABSENCE, Absence, Payload
from mailmapd.changes.following import FollowedDatabase, Following
from mailmapd.config.loader import load_config
from mailmapd.databases.settings import ChangesSettings, MysqlSettings
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.dicts.definition import DictDefinition
from mailmapd.engine.engine import Engine
from mailmapd.engine.outcome import Failure, Known
from mailmapd.engine.table import Table
from mailmapd.model import Found
from mailmapd.plan.assembly import assemble, plan
from support import mail_schemas
from support.followed import PASSWORD as REPLICA_PASSWORD
from support.followed import REPLICA
from support.polling import until
from support.random_changes import Logged, RandomChanges, random_sql_key
from support.settled import is_settled
from support.sql_server import SqlServer
from support.stacks import STACKS
from support.stacks.odd import LOOSE, TANGLED
from support.stacks.stack import PASSWORD, USER, Stack

FILL = 3  # lookups for each table by each of the six who ask, before a round begins
ORDINARY = 300.0  # seconds: the default ttl; what is kept for longer is kept because it is followed
AUDITS = 5.0  # a second and database
LOGINS = (mail_schemas.USER_TABLE, mail_schemas.SERVICE_COLUMNS, mail_schemas.SERVICE_WORDS)


@dataclass
class Findings:
    """The findings of a run: how many entries were compared, and those that were outdated."""

    compared: int = 0
    outdated: list[str] = field(default_factory=list)
    lookups: int = 0
    written: Counter[str] = field(default_factory=Counter)


class Oracle:
    """The engine over one server, and what follows it."""

    def __init__(
        self, server: SqlServer, engine: Engine, following: Following, schemas: tuple[str, ...]
    ) -> None:
        self.engine = engine
        self.databases: Mapping[str, FollowedDatabase] = following.databases
        self.found = Findings()
        self._server = server
        self._schemas = schemas
        self._tables = [
            table
            for name, table in engine.tables.items()
            if not name.endswith((".iterate", "mark"))
        ]
        self._marks = 0

    async def run(
        self,
        seed: int,
        rounds: int,
        transactions: int,
        *,
        definitions: float,
        ends: float,
        logged: Logged,
    ) -> Findings:
        """Write, look up and compare in rounds, until something is outdated. See `RandomChanges` for `definitions`.

        In this share of the rounds the server `ends` all streams of its log in the middle.
        """
        writers = [
            RandomChanges(self._server, self._schemas, seed * 2 + number, definitions, logged)
            for number in range(2)
        ]
        draw = random.Random(seed)
        for _ in range(rounds):
            await asyncio.gather(*[self._look_up(draw, FILL * len(self._tables)) for _ in range(6)])
            writing = asyncio.gather(
                *[asyncio.to_thread(writer.write, transactions) for writer in writers]
            )
            if draw.random() < ends:
                await asyncio.to_thread(self._server.kill_connections, REPLICA)
            while not writing.done():
                await asyncio.gather(*[self._look_up(draw, 10) for _ in range(6)])
            await writing
            await self.rest()
            await self.compare()
            for table in self._tables:
                self.found.outdated += [f"{table.name}: by audit"] * table.audits["outdated"]
            if self.found.outdated:
                break
        self.found.written = writers[0].done + writers[1].done
        return self.found

    async def _look_up(self, draw: random.Random, lookups: int) -> None:
        for _ in range(lookups):
            table = draw.choice(self._tables)
            sql_key = random_sql_key(draw, _sql_key_of(table))
            if sql_key is not None:
                self.found.lookups += 1
                if table.entry(sql_key, time.monotonic()) is None:
                    await table.get(sql_key)

    async def rest(self) -> None:
        """Wait until all that was written is known of, and nothing is being forgotten any more."""
        self._marks += 1
        text = f"m{self._marks}"
        for schema in self._schemas:
            self._server.run_sql(f"INSERT INTO `{schema}`.mark VALUES ('{text}', 'x')")
        for schema in self._schemas:
            mark = self.engine.maps[f"{schema}_mark"]
            async with asyncio.timeout(20):
                # The answer is what is waited for
                while (await mark.answer(text.encode()))[0] != Found(b"x"):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        await until(
            lambda: all(
                database.lease.holds and is_settled(database)
                for database in self.databases.values()
            ),
            f"not all are followed: {[feed.reason for database in self.databases.values() for feed in database.feeds]}",
        )

    async def compare(self) -> None:
        """Ask the database for every entry that is kept for longer than the ordinary time."""
        asked: list[asyncio.Future[str | None]] = []
        long = time.monotonic() + ORDINARY + 10
        for table in self._tables:
            keys = table.cache.keys()
            for sql_key in keys:
                entry = table.cache.peek(sql_key)
                if entry is not None and entry[1] > long:
                    asked.append(asyncio.ensure_future(_difference(table, sql_key, entry[0])))
                if len(asked) >= 200:
                    await self._judge(asked)
        await self._judge(asked)

    async def _judge(self, asked: list[asyncio.Future[str | None]]) -> None:
        for difference in await asyncio.gather(*asked):
            self.found.compared += 1
            if difference is not None:
                self.found.outdated.append(difference)
        asked.clear()


async def _difference(table: Table, sql_key: bytes, kept: Payload | Absence) -> str | None:
    """Return what is outdated in a kept entry, or None; it is forgotten then, so that it counts once."""
    later: asyncio.Future[Known] = asyncio.get_running_loop().create_future()
    table.origin.renew(sql_key, later.set_result)
    known = await later
    if isinstance(known, Failure) or _without_order(known) == _without_order(kept):
        return None
    table.cache.drop(sql_key)
    return f"{table.name} {sql_key!r}: {kept!r} is {known!r}"


def _without_order(found: Payload | Absence) -> object:
    """Return an answer without the order of its rows, which no query asks for."""
    if found is ABSENCE or not isinstance(found, bytes):
        return found
    return sorted(found.split(b","))


def _sql_key_of(table: Table) -> Callable[[dict[str, bytes]], bytes | None]:
    definition = table.definition
    if isinstance(definition, DictDefinition):
        return definition.query.sql_key
    assert isinstance(definition, PostfixDefinition)
    template = definition.template
    return lambda values: template.sql_key(values["user"])


@asynccontextmanager
async def oracle(
    server: SqlServer, folder: Path, schemas: tuple[str, ...] = ()
) -> AsyncIterator[Oracle]:
    """Make the databases (all, or some by name), empty, and follow them."""
    asyncio.get_running_loop().set_debug(False)  # it takes a third of the time, and sees no answers
    parts = [f'[listen]\nsocketmap = ["unix:{folder}/s"]\n']
    made: list[str] = []
    for stack in (*STACKS, TANGLED, LOOSE):
        if not schemas or stack.name in schemas:
            made.append(replace(stack, fill=lambda _: None).create(server))
            parts += _maps(server, made[-1], stack)
    for login in LOGINS:
        if not schemas or login.name in schemas:
            made.append(f"s_{login.name}")
            parts += _dict(server, folder, made[-1], login)
    for schema in made:
        server.run_sql(
            "CREATE TABLE mark (name VARCHAR(9) PRIMARY KEY, value TEXT)", database=schema
        )
        parts.append(
            f'[table.{schema}_mark]\ndatabase = "{schema}"\nquery = "SELECT value FROM mark WHERE name = \'%s\'"\n'
            f'[map.{schema}_mark]\ntables = ["{schema}_mark"]\n'
        )
    server.grant(USER, PASSWORD, r"s\_%", "SELECT, SHOW VIEW, EXECUTE")
    (folder / "mailmapd.toml").write_text("".join(parts))
    planned = plan(load_config(str(folder / "mailmapd.toml")))
    engine = assemble(planned).engine
    changes = ChangesSettings(follow="yes", user=REPLICA, password=REPLICA_PASSWORD, audit=AUDITS)
    following = Following(
        engine,
        {
            name: (settings, changes)
            for name, settings in planned.databases.items()
            if isinstance(settings, MysqlSettings)
        },
        time.monotonic,
    )
    following.start()
    try:
        await until(lambda: all(database.lease.holds for database in following.databases.values()))
        yield Oracle(server, engine, following, tuple(made))
    finally:
        await following.close()
        await engine.close()
        for schema in made:
            server.run_sql(f"DROP DATABASE `{schema}`")


def _database(server: SqlServer, name: str) -> str:
    return (
        f'[database.{name}]\ndriver = "mysql"\nhosts = ["unix:{server.socket}"]\nuser = "{USER}"\n'
        f"password = '{PASSWORD}'\ndbname = \"{name}\"\npool_size = 3\n"
    )


def _maps(server: SqlServer, schema: str, stack: Stack) -> list[str]:
    parts = [_database(server, schema)]
    for name, (query, _) in stack.queries.items():
        label = f"{stack.name}-{name}"
        parts.append(f'[table.{label}]\ndatabase = "{schema}"\nquery = """{query}"""\n')
        parts.append(f'[map.{label}]\ntables = ["{label}"]\n')
    return parts


def _dict(
    server: SqlServer, folder: Path, schema: str, login: mail_schemas.MailSchema
) -> list[str]:
    server.run_sql(f"DROP DATABASE IF EXISTS `{schema}`; CREATE DATABASE `{schema}`")
    for statement in login.sql.split(";"):
        if statement.strip().startswith("CREATE"):
            server.run_sql(statement, database=schema)
    file = folder / f"{login.name}.conf"
    file.write_text(f"driver = mysql\nconnect = host={server.socket}\n{login.settings}")
    return [
        _database(server, schema),
        f'[dict.{login.name}]\ndatabase = "{schema}"\ndovecot_sql = "{file.name}"\n',
    ]
