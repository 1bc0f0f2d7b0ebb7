from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from mailmapd.cache import ABSENCE, TableCache
from mailmapd.config.schema import CacheSection
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.dicts.definition import DictDefinition
from mailmapd.engine.dicts.dict import Dict, DictTable
from mailmapd.engine.dicts.fields import PassdbFields
from mailmapd.engine.engine import SLICE, Engine
from mailmapd.engine.flush import FlushRequest, UnknownName, flush
from mailmapd.engine.invalidation import TouchedSince
from mailmapd.engine.maps.map import Map, MapTable
from mailmapd.engine.origin import QueryOrigin
from mailmapd.engine.table import Table
from mailmapd.search import Search
from mailmapd.template.dovecot_key import DictKey
from mailmapd.template.dovecot_query import DovecotQuery
from mailmapd.template.fold import fold
from mailmapd.template.mysql_table import MysqlTable
from support.known import known
from support.memory_database import MemoryDatabase


def clock() -> float:
    return 0.0


class Bench:
    """Three maps and a dict over one memory database.

    `aliases` asks with extensions and local parts, for hosted domains only; `domains` holds those;
    `catch_all` asks with %d alone.
    """

    def __init__(self) -> None:
        self.database = MemoryDatabase("mail", lambda _, values: [(b"row",)] if values else [])
        self.alias = self.map_table("alias", b"SELECT d FROM a WHERE k = '%s'")
        self.domain = self.map_table("domain", b"SELECT d FROM d WHERE k = '%s'")
        self.catch_all = self.map_table("catch_all", b"SELECT d FROM c WHERE d = '%d'")
        self.local = self.map_table("local", b"SELECT d FROM l WHERE u = '%u'")
        domains = Map("domains", [self.domain], Search.compile("exact"), clock)
        search = Search.compile(
            "address", recipient_delimiter=b"+", local_domains=[b"local.example"]
        )
        aliases = Map("aliases", [self.alias], search, clock, hosted=domains)
        others = Map("others", [self.catch_all, self.local], Search.compile("exact"), clock)
        query = DovecotQuery.compile(
            "auth.passdb", "SELECT password FROM u WHERE user = '%u' AND service = '%s'"
        )
        definition = DictDefinition(query, PassdbFields("auth.passdb", "CRYPT"))
        self.passdb = Table(
            "auth.passdb",
            QueryOrigin("auth.passdb", definition, self.database, clock),
            TableCache(CacheSection()),
            clock,
            secret=True,
        )
        auth = Dict("auth", passdb=DictTable(self.passdb, definition, DictKey.of("passdb", query)))
        tables = {
            part.table.name: part.table
            for part in (self.alias, self.domain, self.catch_all, self.local)
        }
        maps = {map_.name: map_ for map_ in (aliases, domains, others)}
        self.engine = Engine(
            {"mail": self.database}, {**tables, "auth.passdb": self.passdb}, maps, {"auth": auth}
        )

    def map_table(self, name: str, query: bytes) -> MapTable:
        """Return a table over the memory database."""
        definition = PostfixDefinition(MysqlTable.compile(name, query))
        return MapTable(
            Table(
                name,
                QueryOrigin(name, definition, self.database, clock),
                TableCache(CacheSection()),
                clock,
            ),
            definition,
            fold=fold,
        )

    def fill(self, name: str, keys: Sequence[bytes]) -> None:
        """Keep a row under each SQL key of a table."""
        for key in keys:
            self.engine.tables[name].cache.store(key, b"row", 0.0)

    def left(self, name: str) -> set[bytes]:
        """Return the SQL keys that a table still has."""
        return set(self.engine.tables[name].cache.keys())

    async def flush(self, request: FlushRequest) -> dict[str, int]:
        """Flush, and return what was dropped of the tables that lost something."""
        assert request.fault() == ""
        return {
            name: count
            for name, count in (await flush(self.engine, request, b"+-")).items()
            if count
        }


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_key(bench: Bench) -> None:
    """A key is forgotten in every table that has it, in any spelling, and nothing else is."""
    for name in ("alias", "domain"):
        bench.fill(name, [b"user@example.com", b"user+x@example.com"])
    assert await bench.flush(FlushRequest(key=b"User@Example.COM")) == {"alias": 1, "domain": 1}
    assert bench.left("alias") == {b"user+x@example.com"}


async def test_key_of_a_table(bench: Bench) -> None:
    """A key limited to a table stays in the others."""
    for name in ("alias", "domain"):
        bench.fill(name, [b"user@example.com"])
    assert await bench.flush(FlushRequest(key=b"user@example.com", table="alias")) == {"alias": 1}


async def test_key_of_a_map(bench: Bench) -> None:
    """A key limited to a map takes every key along that the map's search tries for it, and its hosted domain."""
    bench.fill(
        "alias", [b"user+x@example.com", b"user@example.com", b"@example.com", b"other@example.com"]
    )
    bench.fill("domain", [b"example.com", b"example.net"])
    assert await bench.flush(FlushRequest(key=b"user+x@example.com", map="aliases")) == {
        "alias": 3,
        "domain": 1,
    }


async def test_user(bench: Bench) -> None:
    """A user is forgotten everywhere.

    Address, any extension, what its lookups share with others, passwords by any service.
    """
    bench.fill(
        "alias",
        [
            b"user@example.com",
            b"user+x@example.com",
            b"user-y@example.com",
            b"@example.com",
            b"user2@example.com",
            b"user@example.net",
        ],
    )
    bench.fill("domain", [b"example.com", b"example.net"])
    bench.fill("catch_all", [b"example.com", b"example.net"])
    bench.fill("local", [b"user", b"user+x", b"other"])
    bench.fill(
        "auth.passdb",
        [b"user@example.com\0imap", b"User@example.com\0pop3", b"other@example.com\0imap"],
    )
    dropped = await bench.flush(FlushRequest(user=b"User@example.com"))
    assert dropped == {"alias": 4, "domain": 1, "catch_all": 1, "local": 2, "auth.passdb": 2}
    assert bench.left("alias") == {b"user2@example.com", b"user@example.net"}
    assert bench.left("auth.passdb") == {b"other@example.com\0imap"}


async def test_local_user(bench: Bench) -> None:
    """The bare local part goes too where the user's domain is a local one, and only there."""
    bench.fill("alias", [b"user", b"user+x", b"other"])
    assert await bench.flush(FlushRequest(user=b"user@local.example")) == {"alias": 2}
    bench.fill("alias", [b"user"])
    assert await bench.flush(FlushRequest(user=b"user@example.com")) == {}


async def test_domain(bench: Bench) -> None:
    """A domain is forgotten with its catch-all, addresses and users; parents, subdomains and other domains stay."""
    stay = [
        b"user@example.net",
        b"@sub.example.com",
        b"user@sub.example.com",
        b"user@badexample.com",
        b"com",
    ]
    bench.fill("alias", [b"a@example.com", b"b+x@example.com", b"@example.com", *stay])
    bench.fill("domain", [b"example.com", b"sub.example.com"])
    bench.fill("catch_all", [b"example.com", b"sub.example.com"])
    bench.fill("auth.passdb", [b"a@example.com\0imap", b"a@example.net\0imap"])
    assert await bench.flush(FlushRequest(domain=b"Example.COM")) == {
        "alias": 3,
        "domain": 1,
        "catch_all": 1,
        "auth.passdb": 1,
    }
    assert bench.left("alias") == set(stay)


async def test_domain_of_entries_without_one(bench: Bench) -> None:
    """Entries that all domains share, because the query asks for the local part alone, go with any domain."""
    bench.fill("local", [b"a", b"b"])
    assert await bench.flush(FlushRequest(domain=b"example.com")) == {"local": 2}


async def test_table_map_and_everything(bench: Bench) -> None:
    """A table, the tables of a map with its hosted domains, those of a dict, or all of them are emptied."""
    for name in bench.engine.tables:
        bench.fill(name, [b"a", b"b"])
        bench.engine.tables[name].cache.store(b"none", ABSENCE, 0.0)
    assert await bench.flush(FlushRequest(table="catch_all")) == {"catch_all": 3}
    assert await bench.flush(FlushRequest(map="aliases")) == {"alias": 3, "domain": 3}
    assert await bench.flush(FlushRequest(map="auth")) == {"auth.passdb": 3}
    assert await bench.flush(FlushRequest(everything=True)) == {"local": 3}
    assert not any(bench.left(name) for name in bench.engine.tables)


@pytest.mark.parametrize(
    "what",
    [
        FlushRequest(table="alais"),
        FlushRequest(map="alias"),
        FlushRequest(key=b"k", table="x"),
        FlushRequest(key=b"k", map="x"),
    ],
)
async def test_unknown_name(bench: Bench, what: FlushRequest) -> None:
    """A table or map that is not there is an error that lists those that are."""
    with pytest.raises(UnknownName, match="alias"):
        await bench.flush(what)


@pytest.mark.parametrize(
    "what",
    [
        FlushRequest(),
        FlushRequest(key=b""),
        FlushRequest(user=b"user"),
        FlushRequest(user=b"@example.com"),
        FlushRequest(domain=b"user@example.com"),
        FlushRequest(domain=b""),
        FlushRequest(key=b"k", user=b"u@example.com"),
        FlushRequest(table="a", map="b"),
        FlushRequest(user=b"u@example.com", table="a"),
        FlushRequest(everything=True, map="a"),
    ],
)
def test_refused(what: FlushRequest) -> None:
    """A request that says nothing, too much or half of it is refused with what to say instead."""
    assert what.fault()


@pytest.mark.parametrize(
    "what",
    [
        FlushRequest(key=b"user@example.com"),
        FlushRequest(user=b"user@example.com"),
        FlushRequest(domain=b"example.com"),
        FlushRequest(table="alias"),
        FlushRequest(everything=True),
    ],
)
async def test_query_in_flight(bench: Bench, what: FlushRequest) -> None:
    """The answer of a query that was on its way during a flush is not kept, even though nothing was cached yet."""
    table = bench.alias.table
    bench.database.hold()
    asking = asyncio.ensure_future(table.get(b"user@example.com"))
    await asyncio.sleep(0)
    await bench.flush(what)
    bench.database.release()
    assert (await asking).known == b"row"
    assert known(table, b"user@example.com", 0.0) is None


async def test_lookups_go_on(bench: Bench) -> None:
    """A flush that looks at many keys lets lookups in between its slices, and drops what it found before they came."""
    bench.fill("alias", [b"user%d@example.com" % number for number in range(20 * SLICE)])
    flushing = asyncio.ensure_future(bench.flush(FlushRequest(domain=b"example.com")))
    turns = 0
    while not flushing.done():
        await asyncio.sleep(0)
        turns += 1
    assert await flushing == {"alias": 20 * SLICE}
    assert turns >= 20


async def test_loading(bench: Bench) -> None:
    """Who loads entries from elsewhere learns what was touched since it began: keys, or everything
    where keys do not say it.
    """
    touched = bench.alias.table.touched = TouchedSince()
    await bench.flush(FlushRequest(key=b"user@example.com"))
    assert b"user@example.com" in touched
    assert b"other@example.com" not in touched
    await bench.flush(FlushRequest(user=b"user@example.com"))
    assert b"user+x@example.com" in touched
    assert b"other@example.com" in touched
