from __future__ import annotations

import asyncio
import json

import pytest

from mailmapd.cache import TableCache
from mailmapd.config.schema import CacheSection, Seconds
from mailmapd.engine.answered import Answered
from mailmapd.engine.dicts import mismatches as module
from mailmapd.engine.dicts.definition import DictDefinition
from mailmapd.engine.dicts.dict import Dict, DictTable
from mailmapd.engine.dicts.fields import PassdbFields
from mailmapd.engine.dicts.mismatches import (
    AT_ONCE,
    BELIEVED,
    KEYS,
    RATE,
    SETTLED,
    WINDOW,
    Allowance,
    Mismatches,
)
from mailmapd.engine.dicts.service import DictService
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.origin import QueryOrigin
from mailmapd.engine.table import Table
from mailmapd.errors import DatabaseUnavailable
from mailmapd.model import Answer, DictLookup, Found, NotFound, PermFail, TempFail
from mailmapd.template.dovecot_key import DictKey
from mailmapd.template.dovecot_query import DovecotQuery
from mailmapd.template.statement import Statement
from support.clock import FakeClock
from support.memory_database import MemoryDatabase, Rows, Values
from support.polling import until

TEXT = "SELECT user, password FROM mailbox WHERE login = '%u'"


class Host:
    """A dict of one table of passwords, and a Dovecot that logs users in as 2.3 does."""

    def __init__(self, text: str = TEXT) -> None:
        self.clock = FakeClock()
        self.passwords = {b"a": b"old", b"b": b"old"}
        self.names: dict[bytes, bytes] = {}
        self.database = MemoryDatabase("mail", self.rows, columns=("user", "password"))
        query = DovecotQuery.compile("auth.passdb", text)
        definition = DictDefinition(query, PassdbFields("auth.passdb", "PLAIN"))
        self.table = Table(
            "auth.passdb",
            QueryOrigin("auth.passdb", definition, self.database, self.clock),
            TableCache(CacheSection(ttl=Seconds(3600.0), jitter=0.0)),
            self.clock,
            secret=True,
        )
        self.mismatches = Mismatches(self.table, self.clock)
        self.forgotten: list[Invalidation] = []
        self.mismatches.forget = self.forget
        self.remembered: dict[bytes, Answered] = {}
        self.mismatches.recall = self.recall
        self.service = DictService("dict", self.clock)
        passdb = DictTable(self.table, definition, DictKey.of("passdb", query))
        self.service.serve({"auth": Dict("auth", passdb=passdb, mismatches=self.mismatches)})

    def rows(self, _: Statement, values: Values) -> Rows:
        """Return the row of a login."""
        password = self.passwords.get(values[0])
        return () if password is None else [(self.names.get(values[0], values[0]), password)]

    def forget(self, invalidation: Invalidation) -> None:
        """Do what an engine does."""
        self.forgotten.append(invalidation)
        self.table.apply(invalidation)
        self.recall(invalidation)

    def recall(self, invalidation: Invalidation) -> None:
        """Do what a reply cache does."""
        for key in invalidation.keys or ():
            self.remembered.pop(b"shared/passdb/" + key, None)

    async def ask(self, key: bytes, user: bytes) -> Answer:
        """Ask as a client does whose replies are remembered where that is allowed."""
        if key in self.remembered:
            return self.remembered[key].answer
        answered = self.service.answer(DictLookup("auth", key, user))
        if isinstance(answered, Answered):
            if answered.use is not None:
                self.remembered[key] = answered
            return answered.answer
        later: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        answer = answered.go_on(later.set_result)
        return await later if answer is None else answer

    async def login(self, user: bytes, password: bytes) -> bool | Answer:
        """Return whether a login is let in, or what keeps that from being said."""
        name = user
        for key in (b"shared/passdb/%b", b"shared/passdb-fresh/%%b/%b" % user):
            answer = await self.ask(key % name, name)
            if isinstance(answer, (TempFail, PermFail)):
                return answer
            if isinstance(answer, Found):
                row = json.loads(answer.value)
                name = row["user"].encode()
                if row["password"].encode() == b"{PLAIN}" + password:
                    return True
        return False

    @property
    def selects(self) -> int:
        """Return how many queries were sent."""
        return len(self.database.asked)


@pytest.fixture
def host() -> Host:
    return Host()


async def test_changed_password(host: Host) -> None:
    """A changed row is fetched at the mismatch, takes the place of the old one, and everybody hears of it."""
    assert await host.login(b"a", b"old") is True
    host.passwords[b"a"] = b"new"
    assert await host.login(b"a", b"new") is True
    assert host.forgotten == [Invalidation("auth.passdb", frozenset({b"a"}))]
    assert host.selects == 2
    assert await host.login(b"a", b"old") is False
    assert await host.login(b"a", b"new") is True
    assert host.mismatches.counts == {"changed": 1, "same": 1, "limited": 0, "failed": 0}


async def test_one_query_for_each_login_that_fitted(host: Host) -> None:
    """After a login that fits one mismatch asks the database, the next ones do not: as with Dovecot's auth cache."""
    assert await host.login(b"a", b"old") is True
    for fitted in range(3):
        for _ in range(5):
            assert await host.login(b"a", b"guess") is False
        assert host.selects == 2 + fitted
        for _ in range(3):
            assert await host.login(b"a", b"old") is True
    assert host.mismatches.counts == {"changed": 0, "same": 3, "limited": 12, "failed": 0}


async def test_window(host: Host) -> None:
    """A guesser who never fits causes one query in each window."""
    assert await host.login(b"a", b"old") is True
    for window in range(3):
        for _ in range(5):
            assert await host.login(b"a", b"guess") is False
        assert host.selects == 2 + window
        host.clock.now += WINDOW


@pytest.mark.parametrize("together", [2, 3, 50])
async def test_guesses_side_by_side(host: Host, together: int) -> None:
    """Guesses that come together are not taken for logins that fit: they cost a few queries in each window at most."""
    assert await host.login(b"a", b"old") is True
    for window in range(2):
        host.database.asked.clear()
        for _ in range(100):
            for _ in range(together):
                assert isinstance(await host.ask(b"shared/passdb/a", b"a"), Found)
            for _ in range(together):
                assert isinstance(await host.ask(b"shared/passdb-fresh/a/a", b"a"), Found)
            host.clock.now += WINDOW / 200
        assert host.selects <= 1 + BELIEVED, window
        host.clock.now += WINDOW


async def test_fitted_among_guesses(host: Host) -> None:
    """A login that fits between guesses that come together counts as soon as no mismatch can follow it any more."""
    assert await host.login(b"a", b"old") is True
    for _ in range(100):
        for key in (b"shared/passdb/a", b"shared/passdb-fresh/a/a"):
            for _ in range(2):
                await host.ask(key, b"a")
    assert await host.login(b"a", b"old") is True
    host.passwords[b"a"] = b"new"
    host.clock.now += SETTLED
    assert await host.login(b"a", b"new") is True


async def test_first_answer_from_the_database(host: Host) -> None:
    """A mismatch with an answer that the database has just given asks it nothing, and a change right after it does."""
    assert await host.login(b"b", b"guess") is False  # from here on somebody asks after mismatches
    assert await host.login(b"a", b"guess") is False
    assert await host.login(b"a", b"guess") is False
    assert host.selects == 3
    host.forget(Invalidation("auth.passdb", frozenset({b"a"})))
    assert await host.login(b"a", b"old") is True
    host.passwords[b"a"] = b"new"
    assert await host.login(b"a", b"new") is True


async def test_unknown_user(host: Host) -> None:
    """A user who is not there is asked of the database once, not again after the mismatch."""
    for _ in range(3):
        assert await host.login(b"nobody", b"guess") is False
    assert host.selects == 1


async def test_deleted_user(host: Host) -> None:
    """A user who was deleted is unknown from the mismatch on."""
    assert await host.login(b"a", b"old") is True
    del host.passwords[b"a"]
    assert await host.login(b"a", b"guess") is False
    assert isinstance(await host.ask(b"shared/passdb/a", b"a"), NotFound)


async def test_limit_in_all(host: Host) -> None:
    """Guessing at many users costs so many queries at once, and then so many a second."""
    users = [b"u%d" % number for number in range(AT_ONCE + 50)]
    host.passwords |= dict.fromkeys(users, b"old")
    for user in users:
        assert await host.login(user, b"old") is True
    host.database.asked.clear()
    for user in users:
        assert await host.login(user, b"guess") is False
    assert host.selects == AT_ONCE
    host.clock.now += 1.0
    for user in users:
        await host.login(user, b"old")
        await host.login(user, b"guess")
    assert host.selects == AT_ONCE + RATE


def test_allowance() -> None:
    """What is not used adds up to what may be used at once."""
    allowance = Allowance(2, 1.0, 0.0)
    assert [allowance.take(0.0) for _ in range(3)] == [True, True, False]
    assert [allowance.take(1.0) for _ in range(2)] == [True, False]
    assert [allowance.take(100.0) for _ in range(3)] == [True, True, False]


async def test_several_connections(host: Host) -> None:
    """Logins that come while the query is on its way share it."""
    assert await host.login(b"a", b"old") is True
    host.passwords[b"a"] = b"new"
    host.database.hold()
    logins = [asyncio.ensure_future(host.login(b"a", b"new")) for _ in range(5)]
    await asyncio.sleep(0)
    host.database.release()
    assert await asyncio.gather(*logins) == [True] * 5
    assert host.selects == 2


async def test_query_on_its_way(host: Host) -> None:
    """A query that was sent before the mismatch is not waited for: it may have seen the row before the change."""
    assert await host.login(b"a", b"old") is True
    host.clock.now = 3500.0  # the refresh age: the next lookup sends a query in the background
    host.database.hold()
    assert await host.login(b"a", b"old") is True
    await asyncio.sleep(0)
    login = asyncio.ensure_future(host.login(b"a", b"new"))
    await asyncio.sleep(0)
    host.passwords[b"a"] = b"new"
    host.database.release()
    assert await login is True
    assert host.selects == 3


async def test_touched_on_its_way(host: Host) -> None:
    """What the database said before the row was touched again is not kept."""
    assert await host.login(b"a", b"old") is True
    host.passwords[b"a"] = b"new"
    host.database.hold()
    login = asyncio.ensure_future(host.login(b"a", b"new"))
    await asyncio.sleep(0)
    host.forget(Invalidation("auth.passdb", frozenset({b"a"})))
    host.database.release()
    assert await login is True
    assert host.table.cache.peek(b"a") is None


async def test_renamed_user(host: Host) -> None:
    """A user whom the row renames is asked about under the name that the client gave, in either case."""
    host.passwords = {b"nick": b"old", b"a@b": b"old"}
    host.names = {b"nick": b"a@b"}
    assert await host.login(b"nick", b"old") is True
    assert await host.login(b"a@b", b"old") is True
    host.passwords = {b"nick": b"new", b"a@b": b"new"}
    assert await host.login(b"nick", b"new") is True
    assert await host.login(b"nick", b"old") is False
    assert host.table.cache.peek(b"a@b") is None  # touched, because it may have been meant
    assert isinstance(await host.ask(b"shared/passdb-fresh/a@b/NICK", b"a@b"), Found)


async def test_database_away(host: Host) -> None:
    """Without the database memory answers; what it does not hold is a temporary failure."""
    assert await host.login(b"a", b"old") is True
    host.database.failure = DatabaseUnavailable("database mail: gone")
    assert await host.login(b"a", b"new") is False
    assert await host.login(b"a", b"old") is True
    assert host.mismatches.counts["failed"] == 1
    assert isinstance(await host.login(b"b", b"old"), TempFail)
    assert isinstance(await host.ask(b"shared/passdb-fresh/b/b", b"b"), TempFail)


async def test_slow_database(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the database does not answer in time, memory does, and what comes later counts for the next login."""
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    assert await host.login(b"a", b"old") is True
    host.passwords[b"a"] = b"new"
    host.database.hold()
    assert await host.login(b"a", b"new") is False
    host.database.release()
    for _ in range(3):
        await asyncio.sleep(0)
    assert await host.login(b"a", b"new") is True
    assert host.selects == 2


async def test_changed_while_it_is_asked(host: Host) -> None:
    """Who asks after a change was heard of does not share a query that was sent before."""
    assert await host.login(b"a", b"old") is True
    host.database.hold()
    asking = [asyncio.create_task(host.ask(b"shared/passdb-fresh/a/a", b"a")) for _ in range(2)]
    await until(lambda: host.selects == 2)
    host.table.apply(Invalidation("auth.passdb", frozenset({b"a"})))
    asking.append(asyncio.create_task(host.ask(b"shared/passdb-fresh/a/a", b"a")))
    await until(lambda: host.selects == 3)
    host.database.release()
    await asyncio.gather(*asking)
    assert host.mismatches._sent == {}


async def test_doubts_are_bounded(host: Host) -> None:
    """Doubts take no more memory than so many keys, whoever guesses."""
    for number in range(KEYS + 10):
        host.mismatches._doubt(b"%d" % number)
    assert len(host.mismatches.doubted) == KEYS


@pytest.mark.parametrize("key", [b"a/b/c", b"a"])
async def test_keys_that_do_not_fit(host: Host, key: bytes) -> None:
    """A key that could be read in two ways, or lacks the client's name, is a temporary failure."""
    assert isinstance(await host.ask(b"shared/passdb-fresh/" + key, b""), TempFail)


async def test_other_variables() -> None:
    """The question has the first one's variables, so it is about the same answer."""
    other = Host(TEXT + " AND enable%Ls = 1 AND '%{login_user}' <> 'x'")
    assert isinstance(await other.ask(b"shared/passdb/a/imap/x/y", b"a"), Found)
    assert isinstance(await other.ask(b"shared/passdb-fresh/a/imap/x/y", b"a"), Found)
    assert isinstance(await other.ask(b"shared/passdb-fresh/a/imap/y", b"a"), Found)
    assert other.mismatches.counts == {"changed": 0, "same": 2, "limited": 0, "failed": 0}


async def test_names_that_differ_in_case(host: Host) -> None:
    """Where names in other cases are other users, no question is taken for one about them."""
    host.passwords = {b"nick": b"lower"}
    assert await host.login(b"nick", b"lower") is True
    assert await host.login(b"NICK", b"lower") is False
    host.passwords[b"NICK"] = b"upper"
    host.names = {b"NICK": b"a@b", b"nick": b"c@d"}
    host.table.apply(Invalidation("auth.passdb"))
    assert await host.login(b"nick", b"lower") is True
    assert await host.login(b"NICK", b"lower") is False
    assert await host.login(b"NICK", b"upper") is True
    host.passwords[b"NICK"] = b"new"
    assert await host.login(b"NICK", b"new") is True


async def test_long_names(host: Host) -> None:
    """A name of which nothing is kept is asked about again, so that it is unknown and not a failure."""
    for _ in range(3):
        assert await host.login(b"x" * 2048, b"guess") is False
    assert host.mismatches.doubted == {}
    assert len(host.mismatches._lately) == 0


async def test_database_back(host: Host) -> None:
    """A password that was changed while the database was away counts at the first or second login after its return."""
    assert await host.login(b"a", b"old") is True
    host.passwords[b"a"] = b"new"
    host.database.failure = DatabaseUnavailable("database mail: gone")
    for _ in range(5):
        assert await host.login(b"a", b"new") is False
    host.table.origin.lose_patience()  # as after a database that hangs: it is away until it answers
    host.database.failure = None
    host.clock.now += 1.0
    assert await host.login(b"a", b"new") is False
    for _ in range(3):
        await asyncio.sleep(0)
    assert await host.login(b"a", b"new") is True
    assert await host.login(b"a", b"old") is False


async def test_query_that_failed(host: Host) -> None:
    """A query that failed is not one that was asked: the next login asks again."""
    assert await host.login(b"a", b"old") is True
    host.passwords[b"a"] = b"new"
    host.database.hold()
    login = asyncio.ensure_future(host.login(b"a", b"new"))
    await asyncio.sleep(0)
    host.database.failure = DatabaseUnavailable("database mail: gone")
    host.database.release()
    assert await login is False
    host.database.failure = None
    assert await host.login(b"a", b"new") is True


async def test_one_probe_at_a_time(host: Host) -> None:
    """Guesses while the database hangs cause one query, not one each."""
    assert await host.login(b"a", b"old") is True
    assert await host.login(b"b", b"old") is True
    host.table.origin.lose_patience()
    host.database.hold()
    for _ in range(5):
        assert await host.login(b"a", b"guess") is False
        assert await host.login(b"b", b"guess") is False
    await asyncio.sleep(0)
    assert host.selects == 3
    host.database.release()
