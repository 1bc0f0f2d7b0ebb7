from __future__ import annotations

from collections.abc import Mapping, Sequence

from mailmapd.cache import TableCache
from mailmapd.config.schema import CacheSection
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.maps.map import Map, MapTable, Told
from mailmapd.engine.origin import QueryOrigin
from mailmapd.engine.outcome import Source
from mailmapd.engine.table import Table
from mailmapd.errors import DatabaseUnavailable
from mailmapd.model import NOT_FOUND, Answer, Found, TempFail
from mailmapd.search import Search
from mailmapd.template.fold import fold
from mailmapd.template.mysql_table import MysqlTable
from support.memory_database import MemoryDatabase


def clock() -> float:
    return 0.0


def table(
    rows: Mapping[str, Sequence[str]],
    query: str = "SELECT v FROM t WHERE k = '%s'",
    result_format: bytes = b"%s",
    expansion_limit: int = 0,
) -> tuple[MapTable, MemoryDatabase]:
    """A table over a memory database; a key's values are one row each."""
    database = MemoryDatabase(
        "mail",
        {(key.encode(),): [(value.encode(),) for value in values] for key, values in rows.items()},
    )
    definition = PostfixDefinition(
        MysqlTable.compile("t", query.encode(), result_format, expansion_limit=expansion_limit)
    )
    return MapTable(
        Table(
            "t", QueryOrigin("t", definition, database, clock), TableCache(CacheSection()), clock
        ),
        definition,
        fold=fold,
    ), database


def make(
    *tables: MapTable,
    search: str = "address",
    propagates: bool | None = True,
    hosted: Map | None = None,
) -> Map:
    found = Search.compile(search, recipient_delimiter=b"+", external_only=propagates is not None)
    return Map("m", tables, found, clock, propagates=propagates, hosted=hosted)


async def ask(map_: Map, key: bytes) -> Answer:
    return (await map_.answer(key))[0]


def now(map_: Map, key: bytes) -> Answer | None:
    """Return the answer if memory holds all of it."""
    told = map_.tell(key, 0.0)
    return told.answer if isinstance(told, Told) else None


async def test_keys_outer_tables_inner() -> None:
    """A catch-all in the first table does not hide a full address in the second."""
    catch_all, _ = table({"@example.com": ["all@example.net"]})
    full, _ = table({"user@example.com": ["user@example.net"]})
    assert await ask(make(catch_all, full), b"user@example.com") == Found(b"user@example.net")
    assert await ask(make(catch_all, full), b"other@example.com") == Found(b"all@example.net")


async def test_first_table_wins() -> None:
    """For one key, the first table that has it gives the answer."""
    first, _ = table({"user@example.com": ["first"]})
    second, _ = table({"user@example.com": ["second"]})
    assert await ask(make(first, second), b"user@example.com") == Found(b"first")


async def test_folded() -> None:
    """A key is folded to lower case before tables are asked, and so shares their entries."""
    aliases, database = table({"user@example.com": ["u"]})
    made = make(aliases)
    assert await ask(made, b"User@Example.COM") == Found(b"u")
    assert now(made, b"USER@example.com") == Found(b"u")
    assert len(database.asked) == 1


async def test_extension_propagated() -> None:
    """The unmatched extension goes on to every address of the result, in the case in which it was written."""
    aliases, _ = table({"user@example.com": ["a@example.net", "b@example.net"]})
    assert await ask(make(aliases), b"user+Ext@example.com") == Found(
        b"a+Ext@example.net,b+Ext@example.net"
    )


async def test_extension_not_propagated() -> None:
    """Neither a map that does not propagate nor one that rewrites no addresses adds the extension."""
    aliases, _ = table({"user@example.com": ["a@example.net"]})
    assert await ask(make(aliases, propagates=False), b"user+ext@example.com") == Found(
        b"a@example.net"
    )
    assert await ask(make(aliases, propagates=None), b"user+ext@example.com") == Found(
        b"a@example.net"
    )


async def test_answered_from_memory() -> None:
    """Once all its parts are known a map answers without waiting, and counts the SELECTs that were not sent."""
    aliases, database = table({"@example.com": ["all"]})
    made = make(aliases)
    assert now(made, b"x@example.com") is None
    assert await made.answer(b"x@example.com") == (Found(b"all"), Source.DATABASE)
    assert made.avoided == 0
    assert now(made, b"x@example.com") == Found(b"all")
    assert made.avoided == 2  # x@example.com and @example.com
    assert len(database.asked) == 2


async def test_shared_parts() -> None:
    """Two addresses of a catch-all domain share its entry."""
    aliases, database = table({"@example.com": ["all"]})
    made = make(aliases)
    await ask(made, b"x@example.com")
    await ask(made, b"y@example.com")
    assert len(database.asked) == 3


async def test_domain_query_is_asked_once() -> None:
    """A query that uses only the domain is asked once for all keys of a recipient."""
    aliases, database = table({}, query="SELECT goto FROM alias_domain WHERE alias_domain = '%d'")
    assert await ask(make(aliases), b"user+ext@example.com") == NOT_FOUND
    assert len(database.asked) == 1


async def test_cannot_tell_ends_the_search() -> None:
    """A table that cannot tell makes a temporary failure even when a later table has the key.

    It might have had a better answer.
    """
    broken, database = table({})
    database.failure = DatabaseUnavailable("db1: gone")
    good, _ = table({"user@example.com": ["u"]})
    assert await ask(make(broken, good), b"user@example.com") == TempFail("db1: gone")


async def test_no_query_no_row() -> None:
    """A key that mysql_table(5) sends no query for is not found, without asking."""
    aliases, database = table({}, query="SELECT v FROM t WHERE d = '%d'")
    assert await ask(make(aliases), b"postmaster") == NOT_FOUND
    assert await ask(make(aliases), b"\xff@example.com\xff") == NOT_FOUND
    assert database.asked == []


async def test_expansion_limit() -> None:
    """More values than expansion_limit are a temporary failure, at once and from memory."""
    aliases, _ = table({"list@example.com": ["a", "b", "c"]}, expansion_limit=2)
    made = make(aliases)
    assert isinstance(await ask(made, b"list@example.com"), TempFail)
    assert isinstance(await ask(made, b"list@example.com"), TempFail)


async def test_result_format_of_the_key() -> None:
    """One entry serves all keys of a domain query whose result_format uses the key."""
    aliases, database = table(
        {"example.com": ["x"]}, query="SELECT v FROM t WHERE d = '%d'", result_format=b"%s/%U"
    )
    made = make(aliases)
    assert await ask(made, b"user@example.com") == Found(b"x/user")
    assert now(made, b"other@example.com") == Found(b"x/other")
    assert len(database.asked) == 1


async def test_unhosted_domain() -> None:
    """An address in a domain that the map of hosted domains does not list is not found, and no table is asked."""
    domains, _ = table({"example.com": ["1"]})
    mailboxes, database = table({"user@example.com": ["u"], "user@other.example": ["u"]})
    made = make(mailboxes, hosted=make(domains, search="exact", propagates=None))
    assert await ask(made, b"user@other.example") == NOT_FOUND
    assert database.asked == []
    assert await ask(made, b"user@example.com") == Found(b"u")


async def test_hosted_domains_cannot_tell() -> None:
    """When the map of hosted domains cannot tell, the tables are asked."""
    domains, database = table({})
    database.failure = DatabaseUnavailable("gone")
    mailboxes, _ = table({"user@example.com": ["u"]})
    assert await ask(
        make(mailboxes, hosted=make(domains, search="exact", propagates=None)), b"user@example.com"
    ) == Found(b"u")
