"""The mail of hosts, without any server: PostfixAdmin's maps, over a database in memory that counts what it is asked.

The engine is the real one, with its clock passed in. For each recipient Postfix asks the maps as smtpd,
trivial-rewrite and cleanup do. Recipients are chosen in proportion to 1 / rank; ATTACK of them are a dictionary
attack: common names tried on every domain.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any, TypeVar

from bench import mailboxes
from bench.rows.recipients import MAPS
from mailmapd.cache import TableCache
from mailmapd.config.schema import CacheSection
from mailmapd.databases.interface import Done, HostStatus
from mailmapd.engine.definition import PostfixDefinition
from mailmapd.engine.maps.map import Map, MapTable, Told
from mailmapd.engine.origin import Origin, QueryOrigin
from mailmapd.engine.table import Table, Watch
from mailmapd.model import Answer, ResultSet, Row
from mailmapd.search import Search
from mailmapd.template.fold import fold
from mailmapd.template.mysql_table import MysqlTable
from mailmapd.template.statement import Statement
from support.clock import FakeClock
from support.memory_database import Rows, Values, values_of
from support.stacks.postfixadmin import POSTFIXADMIN

DAY = 86_400.0
ATTACK = 0.3
MAILBOXES = 1_000
"""Mailboxes of one host."""
DICTIONARY = 400
"""Names that the attack tries on each domain."""
CHANGED = 0.01
"""The mailboxes of which a row changes on one day."""

TURN = 1_000
"""Recipients between two turns of the event loop, in which timers that were not needed are cleared away."""

T = TypeVar("T")

Asked = tuple[str, Values]
"""What a SELECT asks: its table, and the key's parts."""


class MailDatabase:
    """Rows for PostfixAdmin's queries, by table and key; counts what it is asked.

    Statements are answered when the caller says so, by `answer_all`, without an event loop's turn for each.
    """

    name = "mail"

    def __init__(self, count: int = MAILBOXES) -> None:
        people = [address.encode() for address in mailboxes.addresses(count)]
        domains = [domain.encode() for domain in mailboxes.domains(count)]
        self._rows: dict[str, dict[Values, Rows]] = {
            "virtual_alias_maps": {(person,): [(person,)] for person in people},
            "virtual_mailbox_maps": {
                (person,): [(mailboxes.maildir(person.decode()).encode(),)] for person in people
            },
            "virtual_domains_maps": {(domain,): [(domain,)] for domain in domains},
            "transport_maps": {(domain,): [(b":",)] for domain in domains},
        }
        self._waiting: deque[tuple[Callable[[Any], None], Any]] = deque()
        self.selects = 0

    def submit(self, statement: Statement, done: Done) -> None:
        """Take one SELECT; see `Database.submit`."""
        self.selects += 1
        rows = tuple(self.answer(statement.table, values_of(statement)))
        names = tuple([f"column{number}" for number in range(1, len(rows[0]) + 1)]) if rows else ()
        self.tell_later(done, ResultSet(names, rows))

    def answer(self, table: str, values: Values) -> Rows:
        """Return the rows for a SELECT."""
        return self.rows(table, values)

    def tell_later(self, done: Callable[[T], None], word: T) -> None:
        """Have `answer_all` call this."""
        self._waiting.append((done, word))

    def answer_all(self) -> None:
        """Answer every SELECT that was taken, and those that follow from it."""
        while self._waiting:
            done, word = self._waiting.popleft()
            done(word)

    def rows(self, table: str, values: Values) -> Rows:
        """Return the rows of a key."""
        return self._rows.get(table, {}).get(values, ())

    def change(self, address: bytes, goto: bytes) -> None:
        """Have the mail of a mailbox go elsewhere."""
        self._rows["virtual_alias_maps"][(address,)] = [(goto,)]

    async def fetch(self, statement: Statement) -> ResultSet:
        """Refuse: nobody waits here."""
        raise NotImplementedError

    def stream(
        self, statement: Statement, batch: int = 1000
    ) -> AsyncGenerator[tuple[tuple[str, ...], Sequence[Row]], None]:
        """Refuse: nothing is preloaded here."""
        raise NotImplementedError

    def describe(self, statement: Statement) -> str:
        """Return the statement's text."""
        return repr(statement)

    def status(self) -> list[HostStatus]:
        """Return one host that is always up."""
        return _UP

    async def close(self) -> None:
        """Do nothing."""


_UP = [HostStatus(host="memory", up=True, idle=0, busy=0, last_error="")]

OriginMade = Callable[[str, QueryOrigin], Origin]
"""Puts something in front of the origin of a table."""


class Mail:
    """One host: PostfixAdmin's maps, over a database that others may ask, too.

    `watch` is what knows of changes, if anything does.
    """

    def __init__(
        self,
        database: MailDatabase,
        clock: FakeClock,
        settings: CacheSection,
        *,
        watch: Watch | None = None,
        origin: OriginMade = lambda _, origin: origin,
    ) -> None:
        self.tables: dict[str, Table] = {}
        self.database = database
        self.clock = clock
        self.settings = settings
        self._watch = watch
        self._origin = origin
        self.maps = {name: self._map(name) for name in MAPS}

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
            self._origin(name, QueryOrigin(name, definition, self.database, self.clock)),
            TableCache(self.settings),
            self.clock,
        )
        table.watch = self._watch
        self.tables[name] = table
        return table

    def ask(self, name: str, key: bytes) -> Answer:
        """Return a map's answer."""
        found = self.maps[name].tell(key, self.clock.now)
        if isinstance(found, Told):
            self.database.answer_all()  # what is fetched anew ahead of need
            return found.answer
        later: list[Answer] = []
        ended = found.go_on(lambda answer, _: later.append(answer))
        self.database.answer_all()
        return later[0] if ended is None else ended[0]


def lookups(address: bytes, *, known: bool) -> list[tuple[str, bytes]]:
    """Return what Postfix asks for one recipient.

    Trivial-rewrite, smtpd, and cleanup once smtpd has let a known one pass.
    """
    domain = address.rpartition(b"@")[2]
    return [
        ("virtual_alias_maps", domain),
        ("virtual_mailbox_domains", domain),
        ("transport_maps", address),
        ("virtual_alias_maps", address),
        ("virtual_alias_maps" if known else "virtual_mailbox_maps", address),
    ]


class Recipients:
    """Recipients as they come in; `people` are the mailboxes, those first that get most."""

    def __init__(self, chance: random.Random, count: int = MAILBOXES) -> None:
        self.people = [address.encode() for address in mailboxes.addresses(count)]
        chance.shuffle(self.people)
        self._chance = chance
        self._shares = list(itertools.accumulate(1 / rank for rank in range(1, count + 1)))
        self._domains = [domain.encode() for domain in mailboxes.domains(count)]

    def draw(self) -> tuple[bytes, bool]:
        """Return the next recipient, and whether it is known."""
        chance = self._chance
        if chance.random() < ATTACK:
            guess = chance.randrange(DICTIONARY), chance.choice(self._domains)
            return b"guess%d@%b" % guess, False
        return chance.choices(self.people, cum_weights=self._shares)[0], True

    def drawn(self, count: int, seconds: float = DAY) -> Iterator[tuple[float, bytes, bool]]:
        """Yield so many recipients of one day, each with its moment in seconds."""
        for number in range(count):
            yield number * seconds / count, *self.draw()


def drawn_changes(
    people: Sequence[bytes], chance: random.Random, seconds: float = DAY
) -> list[tuple[float, bytes]]:
    """Return which mailboxes change on a day, each with its moment in seconds, in order."""
    return sorted(
        (chance.random() * seconds, chance.choice(people))
        for _ in range(int(len(people) * CHANGED))
    )
