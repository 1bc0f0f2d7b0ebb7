from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from mailmapd.cache import TableCache
from mailmapd.cache.memory import Memory
from mailmapd.config.loader import parse_config
from mailmapd.model import Row
from mailmapd.plan.assembly import Assembled, assemble, plan
from mailmapd.state.preload import Preloader
from mailmapd.template.statement import Statement
from support.clock import FakeClock
from support.polling import until

Batch = tuple[tuple[str, ...], Sequence[Row]]

CONFIG = """
[database.mail]
driver = "sqlite"
path = "{folder}/mail.sqlite"
[table.alias]
database = "mail"
query = "SELECT destination FROM alias WHERE address = '%s'"
preload = "SELECT address, destination FROM alias"
[table.domain]
database = "mail"
query = "SELECT 1 FROM alias WHERE address = '%d'"
preload = "SELECT 'x@example.com', 1"
[table.passdb]
database = "mail"
dovecot_query = "SELECT password FROM account WHERE address = '%u'"
preload = "SELECT address, password FROM account"
[map.aliases]
tables = ["alias"]
[dict.auth]
passdb = "passdb"
"""


class Bench:
    """A preloader over a SQLite file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "mail.sqlite"
        self.config = CONFIG.format(folder=folder)
        self.clock = FakeClock()
        connection = sqlite3.connect(self.file)
        connection.executescript("""
            CREATE TABLE alias (address, destination);
            INSERT INTO alias VALUES ('a@example.com', '1'), ('b@example.com', '2'), ('a@example.com', '3'), ('c@example.com', NULL);
            INSERT INTO alias VALUES ('D@example.com', '4'), ('d@example.com', '5'), (NULL, '6');
            CREATE TABLE account (address, password);
            INSERT INTO account VALUES ('a@example.com', '{PLAIN}a'), ('twice@example.com', 'x'), ('twice@example.com', 'y');
        """)
        connection.close()
        self.start()

    def start(self) -> None:
        """Begin anew with empty caches."""
        self.assembled: Assembled = assemble(
            plan(parse_config(self.config, "/x.toml")), clock=self.clock
        )
        self.preloader = Preloader(lambda: self.assembled, self.clock)

    def cache(self, name: str) -> TableCache:
        """Return the cache of a table."""
        return self.assembled.engine.tables[name].cache

    async def preload(self, tables: int = 3) -> None:
        """Preload until so many tables are done."""
        async with self.preloader:
            await until(lambda: len(self.preloader._done) == tables)
        await self.assembled.engine.close()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_rows(bench: Bench) -> None:
    """Every key is known with all of its rows, as if it had been asked for.

    A key without a value, or in upper case too, is not.
    """
    await bench.preload()
    cache = bench.cache("alias")
    keys = cache.keys()
    found = {key: cache.peek(key) for key in keys}
    assert {key: entry[0] for key, entry in found.items() if entry} == {
        b"a@example.com": b"1,3",
        b"b@example.com": b"2",
    }
    assert bench.cache("domain").keys() == [b"example.com"]


async def test_passwords(bench: Bench) -> None:
    """A dict's table is preloaded under its users' names.

    A user with two rows is left to the lookup, which tells the fault.
    """
    await bench.preload()
    cache = bench.cache("auth.passdb")
    assert cache.keys() == [b"a@example.com"]
    entry = cache.peek(b"a@example.com")
    assert entry is not None
    assert entry[0] == b'{"password": "{PLAIN}a"}'


async def test_fetched_meanwhile(bench: Bench) -> None:
    """What is fresh already stays."""
    bench.cache("alias").store(b"a@example.com", b"newer", 0.0)
    await bench.preload()
    entry = bench.cache("alias").peek(b"a@example.com")
    assert entry is not None
    assert entry[0] == b"newer"


async def test_more_than_there_is_room_for(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a table that is larger than the memory for entries no more is read than has room, and nothing is kept."""
    connection = sqlite3.connect(bench.file)
    rows = [(f"user{number}@example.com", "x" * 100) for number in range(20_000)]
    connection.executemany("INSERT INTO alias VALUES (?, ?)", rows)
    connection.commit()
    connection.close()
    memory = Memory(1024 * 1024)
    bench.assembled = assemble(
        plan(parse_config(bench.config, "/x.toml")), clock=bench.clock, memory=memory
    )
    read: list[int] = []
    database = bench.assembled.engine.databases["mail"]

    async def counted(statement: Statement, batch: int) -> AsyncGenerator[Batch, None]:
        async with aclosing(stream(statement, batch)) as batches:
            async for columns, rows in batches:
                read.append(len(rows))
                yield columns, rows

    stream = database.stream
    monkeypatch.setattr(database, "stream", counted)
    await bench.preload()
    assert "raise cache.max_bytes" in caplog.text
    assert not bench.cache("alias").keys()
    assert bench.cache("auth.passdb").keys() == [b"a@example.com"]
    assert sum(read) < 3000


@pytest.mark.parametrize(
    ("preload", "words"),
    [
        ("SELECT address FROM alias", "preload returns the key alone"),
        ("SELECT nothere FROM alias", "preload failed"),
        ("SELEC address", "preload failed"),
    ],
)
async def test_wrong_statement(
    bench: Bench, preload: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A statement that cannot be used is named once, and the table is served without."""
    bench.config = bench.config.replace("SELECT address, destination FROM alias", preload)
    bench.start()
    await bench.preload()
    assert "table alias" in caplog.text
    assert words in caplog.text
    assert not bench.cache("alias").keys()


async def test_more_variables(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A dict's query that depends on more than the user cannot be preloaded, and is told so."""
    bench.config = bench.config.replace(
        "WHERE address = '%u'", "WHERE address = '%u' AND service = '%s'"
    )
    bench.start()
    await bench.preload()
    assert "depend on the user alone" in caplog.text


async def test_database_away(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A database that cannot be reached is tried again later, and that is said."""
    elsewhere = bench.file.rename(bench.file.with_name("elsewhere"))
    async with bench.preloader:
        await until(lambda: caplog.text.count("next try in 30 s") == 3)
    assert elsewhere.exists()
    assert all(table.touched is None for table in bench.assembled.engine.tables.values())
    await bench.assembled.engine.close()
