"""A fleet's day of mail in compressed time: hosts beside each other over one database.

Every host is a host of `bench.mail` with its share of the mailboxes and of the traffic; mail for any mailbox may come
in at any host. Maps, tables, caches, messages, coverage and watching are the daemon's own, and so is the seal of shared
answers. Played are the stream (a list that every host reads which reaches it), the server that keeps shared answers
(with its tokens, tombstones and room) and the database, which shows a change `VISIBLE` seconds after its event.

    default   ordinary times to live; nobody hears of changes
    bus       two followers say what changes, all hosts keep their tables for a day
    second    the same, and what one host has fetched the others take from the server between them

Each answer about a mailbox is compared with what the database shows at that moment. An answer that is not the same is
*behind*; it is *outdated* when the rules do not allow that: at a host that hears the others, or for longer than `ttl`.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import islice

from bench.mail import (
    DAY,
    MAILBOXES,
    TURN,
    Mail,
    MailDatabase,
    Recipients,
    drawn_changes,
    lookups,
)
from mailmapd.cache.table_cache import ABSENCE, Absence, Payload
from mailmapd.changes.forgetting import Forgetting
from mailmapd.changes.touched import Touched
from mailmapd.cluster.coverage import Coverage
from mailmapd.cluster.message import Codec, Hears, Message
from mailmapd.cluster.publisher import HEARTBEAT
from mailmapd.cluster.sealing import Sealer
from mailmapd.cluster.second_level import TOMBSTONE
from mailmapd.cluster.settings import ClusterSettings
from mailmapd.cluster.shared_answer import Place, SharedAnswer, decode
from mailmapd.cluster.watching import Watching
from mailmapd.config.schema import CacheSection
from mailmapd.databases.settings import ChangesSettings, MysqlSettings
from mailmapd.engine.engine import Engine
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.origin import Done, Origin, QueryOrigin
from mailmapd.engine.outcome import Failure, Known
from mailmapd.model import Found
from support.clock import FakeClock

FOLLOWERS = ("mx1", "mx2")
SERVER = "the database"
TICK = 2.0
"""Seconds between two heartbeats here, a third of the patience; real ones are `HEARTBEAT` apart."""
VISIBLE = 0.5
"""Seconds between the event of a change and the moment from which the database shows it."""
ROOM = ClusterSettings().second_level_max_bytes
"""Bytes that the server may use for the second level; up to half of them for absences."""
STREAM = 6_000_000
"""Bytes of them that the stream takes."""
AROUND = 120
"""Bytes that an answer takes beside its name and value (Redis 7.0; Valkey 9: 64)."""
MESSAGES = 20_000
"""Messages that the stream keeps: `max_messages`."""
SPLIT_CHANGES = 100
"""Changes while the fleet is split, one in six seconds, of the `BUSY` mailboxes."""
BUSY = 100
"""Mailboxes that get most."""
SAMPLE = 100_000
"""Shared answers of which the memory is measured; more need as much each."""
BIN = 600
"""Seconds over which SELECTs are counted."""

Key = tuple[str, bytes]
"""A table's name and a SQL key."""


@dataclass(frozen=True)
class Scenario:
    """One fleet's day. `recipients` are those of each host; half of the hosts are cut off within `split` (seconds)."""

    name: str
    seed: int
    hosts: int
    recipients: int
    bus: bool = False
    second_level: bool = False
    split: tuple[float, float] | None = None
    cold: float | None = None
    """When a host takes the place of the first one, and knows nothing."""
    lasts: float = DAY
    """Seconds of the day, in which all of the traffic comes."""
    busy_changes: int = 0
    """Changes, beside those of the day, of the `BUSY` mailboxes that get most."""

    @property
    def mailboxes(self) -> int:
        """Return the mailboxes of the fleet."""
        return MAILBOXES * self.hosts


@dataclass
class Result:
    """The result of a day."""

    scenario: Scenario
    selects: int = 0
    bins: list[int] = field(default_factory=list)
    """SELECTs of the fleet in each `BIN` seconds."""
    far: list[int] = field(default_factory=list)
    """Those of the hosts that are cut off at some time."""
    taken: int = 0
    """Answers that came from the second level."""
    kept: int = 0
    """Answers that the second level holds in the end."""
    sample: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Some of them, with their names, as the server has them."""
    behind: int = 0
    oldest: float = 0.0
    """Seconds since the change, of the answer that was behind for longest."""
    outdated: int = 0
    changes: int = 0
    messages: list[dict[bytes, bytes]] = field(default_factory=list)
    """Those about changes."""
    trusted: float | None = None
    """Seconds from the end of the split until every host has its tables watched again."""
    cold: int = 0
    """SELECTs of the host that knew nothing, in its first hour."""


class SecondLevel:
    """Answers that all hosts share, sealed as they are in the server, as long as there is room for them.

    A fill needs a token from before its SELECT, and no tombstone.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.kept: dict[bytes, bytes] = {}
        self.taken = 0
        self._clock = clock
        self._sealer = Sealer(b"a secret of this fleet", "mailmapd:shared:")
        self._place = Place((1_790_000_000_000, 0), "0" * 40, frozenset({"0" * 16}))
        self._expires: dict[bytes, float] = {}
        self._used = STREAM
        self._tokens: Counter[Key] = Counter()
        self._tombstones: dict[Key, float] = {}

    def _name(self, key: Key) -> bytes:
        return self._sealer.answer(key[0], key[1])[0]

    def get(self, key: Key) -> Payload | Absence | None:
        """Return what is shared of a key."""
        name = self._name(key)
        if self._expires.get(name, 0.0) <= self._clock.now:
            return None
        plain = self._sealer.open(name, self.kept[name])
        answer = None if plain is None else decode(plain)
        if answer is None:
            raise AssertionError("what was sealed here cannot be opened")
        self.taken += 1
        return answer.found

    def token(self, key: Key) -> int | None:
        """Return what a fill has to show, or None when it would be in vain."""
        buried = self._tombstones.get(key, 0.0) > self._clock.now
        return None if buried else self._tokens[key]

    def fill(self, key: Key, found: Payload | Absence, token: int | None) -> None:
        """Share an answer, unless its key was forgotten since the token, or there is no room."""
        most = ROOM / 2 if found is ABSENCE else ROOM
        if token is None or token != self.token(key) or self._used >= most:
            return
        name, now = self._name(key), self._clock.now
        answer = SharedAnswer.of(found, now, DAY, self._place, b"0" * 8).encode()
        if answer is None:
            raise AssertionError("the database has too many servers")
        self._drop(name)
        self.kept[name] = sealed = self._sealer.seal(name, answer)
        self._expires[name] = now + DAY
        self._used += len(name) + len(sealed) + AROUND

    def forget(self, keys: Iterable[Key]) -> None:
        """Share these keys no more, and nothing that is on its way."""
        for key in keys:
            self._drop(self._name(key))
            self._tokens[key] += 1
            self._tombstones[key] = self._clock.now + TOMBSTONE

    def _drop(self, name: bytes) -> None:
        sealed = self.kept.pop(name, None)
        if sealed is not None:
            del self._expires[name]
            self._used -= len(name) + len(sealed) + AROUND


class SharedOrigin:
    """The second level in front of a table's database, while the host hears the others; see `Origin`."""

    def __init__(self, name: str, origin: QueryOrigin, host: Host, shared: SecondLevel) -> None:
        self.definition, self.database = origin.definition, origin.database
        self.patience = origin.patience
        self.refusal, self.away, self.lose_patience = (
            origin.refusal,
            origin.away,
            origin.lose_patience,
        )
        self.spared, self.refused, self.renew = origin.spared, origin.refused, origin.renew
        self.forget, self.forget_all = origin.forget, origin.forget_all
        self.schema_error = ""
        self._name = name
        self._origin = origin
        self._host = host
        self._shared = shared

    def fetch(self, sql_key: bytes, done: Done) -> None:
        """Ask the second level, then the database."""
        if not self._host.hears_others:
            self._origin.fetch(sql_key, done)
            return
        key = (self._name, sql_key)
        known = self._shared.get(key)
        if known is not None:
            self._host.mail.database.tell_later(done, known)
            return
        token = self._shared.token(key)

        def land(known: Known) -> None:
            if not isinstance(known, Failure):
                self._shared.fill(key, known, token)
            done(known)

        self._origin.renew(sql_key, land)


class Host:
    """One host: its maps, and what it hears of the others."""

    def __init__(
        self,
        database: MailDatabase,
        clock: FakeClock,
        shared: SecondLevel | None,
    ) -> None:
        self.reached = True
        self._clock = clock
        self._caught_up = clock.now
        self._proven = clock.now
        self._missed: list[Message] = []
        self._database = database
        self._shared = shared
        self._begin()

    def _begin(self) -> None:
        """Begin without any memory."""
        self.mail = Mail(self._database, self._clock, CacheSection(), origin=self._origin)
        tables = self.mail.tables
        self.engine = Engine({"mail": self._database}, tables, self.mail.maps, {})
        self._coverage = Coverage()
        databases = {"mail": (MysqlSettings(), ChangesSettings())}
        self._watching = Watching(
            self.engine, databases, {name: name for name in tables}, self._coverage, self._clock
        )
        for known in self._watching._databases.values():  # instead of asking a real server
            known.servers._known = dict.fromkeys(known.servers._known, SERVER)
        self._forgetting = Forgetting(self.engine, tables)

    def _origin(self, name: str, origin: QueryOrigin) -> Origin:
        return origin if self._shared is None else SharedOrigin(name, origin, self, self._shared)

    def start_cold(self) -> None:
        """Take this host's place with one that knows nothing."""
        self._begin()

    @property
    def hears_others(self) -> bool:
        """Return whether this host keeps its tables for long, and so may believe what others have fetched."""
        return self.reached and all(table.watch is not None for table in self.mail.tables.values())

    def cut_off(self) -> None:
        """Reach the stream no more."""
        self.reached = False

    def come_back(self) -> None:
        """Reach the stream again, and read what was said meanwhile, as far as it reaches back."""
        self.reached = True
        away = self._clock.now - self._caught_up
        if away * len(FOLLOWERS) / HEARTBEAT > MESSAGES:
            self._missed.clear()
            self._coverage.forget()
            self._watching.look()
            self.engine.apply(Invalidation(before=self._proven))
        missed, self._missed = self._missed, []
        self._take(missed)

    def hear(self, messages: Sequence[Message]) -> None:
        """Get messages, now or when the stream is reached again."""
        if self.reached:
            self._take(messages)
        else:
            self._missed += [message for message in messages if message.forget is not None]

    def _take(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if message.forget is not None:
                self._forgetting.forget(message.forget)
            if message.hears is not None:
                self._coverage.heard(
                    message.host, message.run, message.hears, self._caught_up, self._clock.now
                )
        self._caught_up = self._proven = self._clock.now
        self._coverage.prove()
        self._watching.look()

    def look(self) -> None:
        """See what still holds, where no message makes this host look."""
        if not self.reached:
            self._watching.look()


class Fleet:
    """The hosts of a scenario, and its database. `pass_by` is the day."""

    def __init__(self, scenario: Scenario) -> None:
        self.result = Result(scenario)
        self.clock = FakeClock()
        self.database = MailDatabase(scenario.mailboxes)
        self._scenario = scenario
        self._shared = SecondLevel(self.clock) if scenario.second_level else None
        self.hosts = [Host(self.database, self.clock, self._shared) for _ in range(scenario.hosts)]
        self._far = self.hosts[scenario.hosts // 2 :]
        self._codec = Codec()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = 0
        self._changed_at: dict[bytes, float] = {}
        self._ttl = CacheSection().ttl

    def _plan(self, moment: float, act: Callable[[], None]) -> None:
        """Have something happen at a moment."""
        self._numbers += 1
        heappush(self._due, (moment, self._numbers, act))

    async def pass_by(
        self, recipients: Recipients, changing: random.Random, chance: random.Random
    ) -> Result:
        """Let the day pass; `changing` decides what changes, `chance` which host a recipient comes to."""
        scenario = self._scenario
        self._plan_day(recipients.people, changing)
        for number, (now, address, known) in enumerate(
            recipients.drawn(scenario.recipients * scenario.hosts, scenario.lasts)
        ):
            if number % TURN == 0:
                await asyncio.sleep(0)
            while self._due and self._due[0][0] <= now:
                self.clock.now, _, act = heappop(self._due)
                act()
            self.clock.now = now
            host = self.hosts[chance.randrange(scenario.hosts)]
            before = self.database.selects
            for name, key in lookups(address, known=known):
                answer = host.mail.ask(name, key)
                if name == "virtual_alias_maps" and key in self._changed_at:
                    self._compare(host, key, answer)
            self._count(now, host, self.database.selects - before)
        result = self.result
        result.selects = self.database.selects
        if self._shared is not None:
            result.taken, result.kept = self._shared.taken, len(self._shared.kept)
            result.sample = list(islice(self._shared.kept.items(), SAMPLE))
        return result

    def _plan_day(self, people: Sequence[bytes], changing: random.Random) -> None:
        scenario = self._scenario
        for moment, address in drawn_changes(people, changing, scenario.lasts):
            self._plan_change(moment, address)
        self._plan_busy_changes(0.0, scenario.lasts, scenario.busy_changes, people)
        if scenario.split is not None:
            begin, end = scenario.split
            self._plan_busy_changes(begin, end, SPLIT_CHANGES, people)
            self._plan(begin, self._cut)
            self._plan(end, self._heal)
        if scenario.cold is not None:
            self._plan(scenario.cold, self._start_cold)
        if scenario.bus:
            self._beat()

    def _plan_busy_changes(
        self, begin: float, end: float, number: int, people: Sequence[bytes]
    ) -> None:
        for each in range(number):
            moment = begin + (end - begin) * (each + 0.5) / number
            self._plan_change(moment, people[each % BUSY])

    def _plan_change(self, moment: float, address: bytes) -> None:
        self.result.changes += 1
        goto = b"%d.%b" % (self.result.changes, address)

        def show() -> None:
            self.database.change(address, goto)
            self._changed_at[address] = self.clock.now
            self._say_forgotten(address)  # once more behind the fence

        def hear() -> None:
            self._say_forgotten(address)
            self._plan(self.clock.now + VISIBLE, show)

        self._plan(moment, hear)

    def _say_forgotten(self, address: bytes) -> None:
        if not self._scenario.bus:
            return
        tables = self.hosts[0].mail.tables
        if self._shared is not None:
            self._shared.forget([(name, address) for name in tables])
        touched = Touched()
        for name in tables:
            touched.add_key(name, address)
        self.result.messages += self._say([Message(FOLLOWERS[0], "run", forget=touched)])

    def _say(self, messages: Iterable[Message]) -> list[dict[bytes, bytes]]:
        """Put messages into the stream; return them as they are there."""
        fields = [self._codec.encode(message) for message in messages]
        decoded = [self._codec.decode(each) for each in fields]
        for host in self.hosts:
            host.hear(decoded)
        return fields

    def _beat(self) -> None:
        """Let every follower vouch for all that it has said, and every host look."""
        tables = frozenset(self.hosts[0].mail.tables)
        hears = {"mail": Hears(1, 0.0, frozenset({SERVER}), tables)}
        self._say([Message(name, "run", hears=hears) for name in FOLLOWERS])
        for host in self.hosts:
            host.look()
        self._look_who_trusts()
        self._plan(self.clock.now + TICK, self._beat)

    def _look_who_trusts(self) -> None:
        split = self._scenario.split
        if split is None or self.result.trusted is not None or self.clock.now < split[1]:
            return
        if all(host.hears_others for host in self.hosts):
            self.result.trusted = self.clock.now - split[1]

    def _cut(self) -> None:
        for host in self._far:
            host.cut_off()

    def _heal(self) -> None:
        for host in self._far:
            host.come_back()

    def _start_cold(self) -> None:
        self.hosts[0].start_cold()

    def _compare(self, host: Host, address: bytes, answer: object) -> None:
        """Compare what a host says of a mailbox that has changed with what the database shows."""
        [(goto,)] = self.database.rows("virtual_alias_maps", (address,))
        if goto is not None and answer == Found(goto):
            return
        age = self.clock.now - self._changed_at[address]
        self.result.behind += 1
        self.result.oldest = max(self.result.oldest, age)
        allowed = 0.0 if self._scenario.bus and host.hears_others else self._ttl
        self.result.outdated += age > allowed

    def _count(self, now: float, host: Host, selects: int) -> None:
        place = int(now // BIN)
        for bins in (self.result.bins, self.result.far):
            bins.extend([0] * (place + 1 - len(bins)))
        self.result.bins[place] += selects
        if host in self._far:
            self.result.far[place] += selects
        cold = self._scenario.cold
        if cold is not None and host is self.hosts[0] and cold <= now < cold + 3600:
            self.result.cold += selects


def simulate(scenario: Scenario) -> Result:
    """Return what comes of a scenario."""
    seed = scenario.seed
    recipients = Recipients(random.Random(f"{seed} day"), scenario.mailboxes)
    fleet = Fleet(scenario)
    chances = [random.Random(f"{seed} {purpose}") for purpose in ("changes", "hosts")]
    return asyncio.run(fleet.pass_by(recipients, *chances))


def scenarios(seed: int, hosts: int, recipients: int, split: float) -> list[Scenario]:
    """Return the days that are compared."""
    noon = DAY / 2
    plain = Scenario("default times", seed, hosts, recipients)
    bus = replace(plain, name="bus", bus=True)
    second = replace(bus, name="second level", second_level=True)
    disturbed = [
        replace(day, name=f"{day.name}, disturbed", split=(noon, noon + split), cold=DAY * 0.75)
        for day in (bus, second)
    ]
    return [plain, bus, second, *disturbed]
