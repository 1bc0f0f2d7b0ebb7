"""A day of mail in compressed time.

How many SELECTs reach the database, beside those that Postfix would have sent (row 8).

The engine is the real one, with its clock passed in and a database that counts. Recipients are
chosen in proportion to 1 / rank; ATTACK of them are a dictionary attack: common names tried on
every domain. For each recipient Postfix asks PostfixAdmin's maps as smtpd, trivial-rewrite and
cleanup do.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from bench import mailboxes
from bench.report import Line, count
from bench.rows.recipients import MAPS
from bench.workbench import Workbench
from mailmapd.cache import TableCache
from mailmapd.changes.lease import Lease
from mailmapd.config.schema import CacheSection, Seconds
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.maps.map import Map, MapTable, Told
from mailmapd.engine.origin import QueryOrigin
from mailmapd.engine.table import Table
from mailmapd.search import Search
from mailmapd.template.fold import fold
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.statement import Statement
from support.clock import FakeClock
from support.memory_database import MemoryDatabase, Rows, Values, values_of
from support.stacks.postfixadmin import POSTFIXADMIN

ROWS = (8,)
DAY = 86_400.0
ATTACK = 0.3
MAILBOXES = 1_000
DICTIONARY = 400
"""Names that the attack tries on each domain."""
CHANGED = 0.01
"""The mailboxes of which a row changes on one day."""

FOLLOWED = "changes followed, as by default (1 day), 1 % of the mailboxes changed"
SETTINGS = {
    "default times to live (5 min, absent 1 min)": CacheSection(),
    "times to live of 2 days, for hosts that flush what they change": CacheSection(
        ttl=Seconds(2 * DAY), negative_ttl=Seconds(2 * DAY)
    ),
    FOLLOWED: CacheSection(),
}


class MailDatabase:
    """Rows for PostfixAdmin's queries, by table and key; counts what it is asked, by table and key, with the times."""

    def __init__(self, clock: FakeClock) -> None:
        people = [address.encode() for address in mailboxes.addresses(MAILBOXES)]
        domains = [domain.encode() for domain in mailboxes.domains(MAILBOXES)]
        self._rows: dict[str, dict[Values, Rows]] = {
            "virtual_alias_maps": {(one,): [(one,)] for one in people},
            "virtual_mailbox_maps": {
                (one,): [(mailboxes.maildir(one.decode()).encode(),)] for one in people
            },
            "virtual_domains_maps": {(one,): [(one,)] for one in domains},
            "transport_maps": {(one,): [(b":",)] for one in domains},
        }
        self._clock = clock
        self.selects: Counter[tuple[str, Values]] = Counter()
        self.last: dict[tuple[str, Values], float] = {}
        self.shortest: dict[bool, float] = {True: inf, False: inf}
        """The shortest time between two SELECTs for one key, of a row and of an absence."""

    def answer(self, statement: Statement, values: Values) -> Rows:
        """Answer and count one SELECT."""
        rows = self.rows(statement.table, values)
        asked = (statement.table, values)
        self.selects[asked] += 1
        if asked in self.last:
            kind = bool(rows)
            self.shortest[kind] = min(self.shortest[kind], self._clock.now - self.last[asked])
        self.last[asked] = self._clock.now
        return rows

    def rows(self, table: str, values: Values) -> Rows:
        """Return the rows of a key."""
        return self._rows.get(table, {}).get(values, ())


class Selects(NamedTuple):
    """One SELECT that Postfix sends for a lookup, and whether it finds a row."""

    asked: tuple[str, Values]
    row: bool


class Mail:
    """PostfixAdmin's maps over the counting database.

    `postfix` counts the SELECTs that Postfix would have sent, `least` those that no cache with the
    same times to live can avoid.
    """

    def __init__(self, settings: CacheSection, chance: random.Random, *, followed: bool) -> None:
        self._chance = chance
        self._lease = Lease(DAY, DAY) if followed else None
        if self._lease is not None:
            self._lease.holds = True
        self.tables: list[Table] = []
        self.clock = FakeClock()
        self.database = MailDatabase(self.clock)
        self.settings = settings
        self.postfix = self.least = 0
        self._memory = MemoryDatabase("mail", self.database.answer, clock=self.clock)
        self._maps = {name: self._map(name) for name in MAPS}
        self._selects: dict[tuple[str, bytes], list[Selects]] = {}
        self._expires: dict[tuple[str, Values], float] = {}

    def _map(self, name: str) -> Map:
        definitions = {
            table: PostfixDefinition(
                MysqlTable.compile(table, POSTFIXADMIN.queries[table][0].encode())
            )
            for table in MAPS[name]
        }
        tables = [
            MapTable(
                self._table(table, definition),
                definition,
                fold=fold,
            )
            for table, definition in definitions.items()
        ]
        strategy = {
            "virtual_mailbox_domains": "domain",
            "relay_domains": "domain",
            "transport_maps": "transport",
        }.get(name, "address")
        search = Search.compile(
            strategy,
            recipient_delimiter=b"" if strategy == "domain" else b"+",
            parent_domain_matches_subdomains=name == "relay_domains",
        )
        return Map(
            name,
            tables,
            search,
            self.clock,
            propagates=True if name == "virtual_alias_maps" else None,
        )

    def _table(self, name: str, definition: PostfixDefinition) -> Table:
        table = Table(
            name,
            QueryOrigin(name, definition, self._memory, self.clock),
            TableCache(self.settings, self._chance),
            self.clock,
        )
        table.watch = self._lease
        self.tables.append(table)
        return table

    @property
    def hears(self) -> bool:
        """Return whether changes are followed."""
        return self._lease is not None

    def change(self, address: bytes) -> None:
        """Hear that the rows of a mailbox have changed."""
        for table in self.tables:
            table.apply(Invalidation(table.name, frozenset((address,))))

    async def recipient(self, address: bytes, *, known: bool) -> None:
        """Look up what Postfix does for one recipient.

        Trivial-rewrite, smtpd, and cleanup once smtpd has let a known one pass.
        """
        domain = address.rpartition(b"@")[2]
        lookups = [
            ("virtual_alias_maps", domain),
            ("virtual_mailbox_domains", domain),
            ("transport_maps", address),
        ]
        lookups += [
            ("virtual_alias_maps", address),
            ("virtual_alias_maps" if known else "virtual_mailbox_maps", address),
        ]
        for name, key in lookups:
            if not isinstance(self._maps[name].tell(key, self.clock.now), Told):
                await self._maps[name].answer(key)
            self._count(name, key)
        self._memory.asked.clear()

    def _count(self, name: str, key: bytes) -> None:
        selects = self._selects.get((name, key))
        if selects is None:
            selects = self._selects[name, key] = list(self._postfix_selects(self._maps[name], key))
        self.postfix += len(selects)
        for select in selects:
            if self.clock.now >= self._expires.get(select.asked, 0.0):
                self.least += 1
                ordinary = self.settings.ttl if select.row else self.settings.negative_ttl
                self._expires[select.asked] = self.clock.now + (DAY if self.hears else ordinary)

    def _postfix_selects(self, one: Map, key: bytes) -> Iterator[Selects]:
        """Yield the SELECTs that Postfix sends for a lookup: key by key over the tables until one has a row."""
        for search_key, place in itertools.product(one.search.keys(key), one.tables):
            folded = fold(search_key.key)
            sql_key = None if folded is None else place.sql_key(folded)
            if sql_key is None:
                continue
            statement = place.definition.statement(sql_key)
            asked = (statement.table, values_of(statement))
            row = bool(self.database.rows(*asked))
            yield Selects(asked, row)
            if row:
                break


def measure(bench: Workbench, _: set[int]) -> Iterator[Line]:
    """Yield the lines of row 8."""
    for name, settings in SETTINGS.items():
        spread = bench.draws.chance("spread of times to live")
        mail = Mail(settings, spread, followed=name == FOLLOWED)
        asyncio.run(_day(mail, bench.scale.day_recipients, bench.draws.chance("day")))
        yield from _lines(name, mail, bench.scale.day_recipients)


async def _day(mail: Mail, recipients: int, chance: random.Random) -> None:
    people = [address.encode() for address in mailboxes.addresses(MAILBOXES)]
    chance.shuffle(people)
    shares = list(itertools.accumulate(1 / rank for rank in range(1, MAILBOXES + 1)))
    domains = [domain.encode() for domain in mailboxes.domains(MAILBOXES)]
    changes = chance.sample(range(recipients), int(MAILBOXES * CHANGED)) if mail.hears else []
    for number in range(recipients):
        if number in changes:
            mail.change(chance.choice(people))
        mail.clock.now = number * DAY / recipients
        if chance.random() < ATTACK:
            await mail.recipient(
                b"guess%d@%b" % (chance.randrange(DICTIONARY), chance.choice(domains)), known=False
            )
        else:
            await mail.recipient(chance.choices(people, cum_weights=shares)[0], known=True)


def _lines(name: str, mail: Mail, recipients: int) -> Iterator[Line]:
    sent, settings = mail.database.selects.total(), mail.settings
    avoided = 1 - sent / mail.postfix
    yield Line(
        8,
        f"SELECTs of a day, {count(recipients)} recipients, {ATTACK:.0%} dictionary attack; {name}",
        count(sent),
        f"Postfix alone {count(mail.postfix)}; no cache with these times to live needs less than {count(mail.least)}",
        f"{avoided:.2%} avoided",
        "≥ 99 %",
        avoided >= 0.99,
    )
    if mail.hears:
        return
    spread = 1 - settings.jitter
    fresh = {
        True: settings.ttl * (1 - settings.refresh_ahead) * spread,
        False: settings.negative_ttl * spread,
    }
    shortest = mail.database.shortest
    yield Line(
        8,
        "the same: shortest time between two SELECTs for one key",
        ", ".join(
            _seconds(shortest[kind], what) for kind, what in ((True, "row"), (False, "absent"))
        ),
        target=f"≥ {fresh[True]:.0f} s, {fresh[False]:.0f} s",
        met=all(shortest[kind] >= fresh[kind] for kind in fresh),
    )


def _seconds(shortest: float, kind: str) -> str:
    return f"no second one ({kind})" if shortest == inf else f"{shortest:.0f} s ({kind})"
