from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.cluster.coverage import PATIENCE, Coverage, Vouched
from mailmapd.cluster.message import Hears
from mailmapd.cluster.shared_answer import Place, SharedAnswer
from mailmapd.cluster.watching import Watching
from mailmapd.config.loader import parse_config
from mailmapd.databases.settings import MysqlSettings
from mailmapd.plan.assembly import assemble, plan
from support.clock import FakeClock
from support.fleet import configuration

SERVER = "server"


class Bench:
    """A table, held under one key, and the words about it."""

    def __init__(self) -> None:
        text = configuration(Path("/tmp"), '"unix:/nowhere"', {"alias": "SELECT 1"}, "")
        planned = plan(parse_config(text, "/tmp/mailmapd.toml"))
        self.clock = FakeClock()
        self.engine = assemble(planned, clock=self.clock).engine
        self.table = self.engine.tables["alias"]
        self.coverage = Coverage()
        settings = planned.databases["mail"]
        assert isinstance(settings, MysqlSettings)
        databases = {"mail": (settings, planned.changes["mail"])}
        self.watching = Watching(
            self.engine, databases, {"alias": "digest"}, self.coverage, self.clock
        )
        self.knows(SERVER)

    def knows(self, digest: str | None) -> None:
        """Let it be known which server is asked."""
        [database] = self.watching._databases.values()
        database.servers._known = dict.fromkeys(database.servers._known, digest)

    def say(
        self, host: str, moment: float, epoch: int = 1, since: str = "", servers: str = SERVER
    ) -> None:
        """Let a follower vouch for the table."""
        vouched = frozenset(servers.split())
        hears = {"mail": Hears(epoch, 0.0, vouched, frozenset({"digest"}), since)}
        self.coverage.heard(host, "run", hears, moment, self.clock.now, tells_second=True)
        self.coverage.prove()

    def look(self, now: float) -> bool:
        """Return whether the table is watched at a moment."""
        self.clock.now = now
        self.watching.look()
        return self.table.watch is not None

    def believes(self, last_id: int, servers: str = SERVER) -> bool:
        """Return whether an answer is believed that was asked for after a message, of some servers."""
        place = Place((last_id, 0), "history", frozenset(servers.split()))
        return self.watching.believes("alias", SharedAnswer.of(b"value", 0.0, 9.0, place, b"marks"))

    def keep(self) -> None:
        """Keep an answer now."""
        lifetime = None if self.table.watch is None else self.table.watch.lifetime(b"key", False)
        self.table.cache.store(b"key", b"value", self.clock.now, lifetime)

    def believed_until(self) -> float:
        """Return until when the answer is fresh."""
        entry = self.table.cache.peek(b"key")
        assert entry is not None
        return entry[1]


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_one_stands_in_for_the_other(bench: Bench) -> None:
    """When one follower's word ends, another's holds on without a break, if it began before."""
    bench.say("mx1", 10.0)
    assert bench.look(10.0)
    bench.clock.now = 11.0
    bench.say("mx2", 11.0)
    bench.say("mx1", 12.0)
    bench.look(12.0)
    bench.keep()
    bench.say("mx2", 12.0 + PATIENCE)
    assert bench.look(12.5 + PATIENCE)
    assert bench.believed_until() > 10_000


async def test_break(bench: Bench) -> None:
    """One that began after the other's last word does not: what was known counts from there."""
    bench.say("mx1", 10.0)
    bench.look(10.0)
    bench.keep()
    bench.clock.now = 12.0
    bench.say("mx2", 12.0)
    assert bench.look(12.0)
    assert bench.believed_until() > 10_000
    bench.clock.now = 10.5 + PATIENCE
    bench.say("mx2", 10.5 + PATIENCE)
    assert bench.look(10.5 + PATIENCE)
    assert bench.believed_until() < 10.0 + 300
    bench.keep()
    assert bench.believed_until() > 10_000


async def test_own_server_unknown(bench: Bench) -> None:
    """While it is not known which server is asked, or it is another one, nobody's word is about it."""
    bench.say("mx1", 10.0)
    for digest in (None, "other"):
        assert bench.look(10.0)
        bench.knows(digest)
        assert not bench.look(10.0)
        bench.knows(SERVER)


async def test_own_feed_first(bench: Bench) -> None:
    """A table that this host follows itself is left to that; when that ends, others' words hold."""

    class Own:
        def lifetime(self, sql_key: bytes, absent: bool) -> float | None:
            del sql_key, absent
            return 7.0

    own = bench.table.watch = Own()
    bench.say("mx1", 10.0)
    assert bench.look(10.0)
    assert bench.table.watch is own
    bench.table.watch = None
    assert bench.look(10.1)


async def test_end(bench: Bench) -> None:
    """When it ends, the ordinary times hold at once."""
    bench.say("mx1", 10.0)
    bench.look(10.0)
    bench.keep()
    await bench.watching.close()
    assert bench.table.watch is None
    assert bench.believed_until() <= 10.0 + 300


async def test_on_its_way(bench: Bench) -> None:
    """What was asked before anybody vouched is answered, and not kept for long."""
    bench.table._flights.start(b"key")
    bench.say("mx1", 10.0)
    assert bench.look(10.0)
    assert bench.table._flights.find(b"key") is None


async def test_shared_answer_since_when(bench: Bench) -> None:
    """An answer of another host is believed if whoever vouches has told every change since it was asked for."""
    bench.say("mx1", 10.0)
    assert bench.look(10.0)
    assert not bench.believes(5), "its first word was about no message"
    bench.say("mx1", 10.5, since="5-0")
    assert bench.believes(5)
    assert not bench.believes(4)
    bench.say("mx1", 11.0, epoch=2)
    bench.look(11.0)
    assert not bench.believes(5)


async def test_shared_answer_of_another_server(bench: Bench) -> None:
    """One of another server is believed if that is vouched for, too, and from then on only while it is."""
    bench.say("mx1", 10.0, since="5-0")
    assert bench.look(10.0)
    assert not bench.believes(5, "replica")
    bench.say("mx1", 10.5, since="6-0", servers=f"{SERVER} replica")
    bench.look(10.5)
    assert bench.believes(6, "replica")
    bench.say("mx2", 12.0, since="6-0")
    assert bench.look(12.0)
    assert bench.look(10.4 + PATIENCE)
    assert not bench.look(10.6 + PATIENCE), "mx2 says nothing of the replica"


async def test_shared_answer_that_another_one_vouches_for(bench: Bench) -> None:
    """What the keeper has not heard since, another follower may have, if there was no break between them."""
    bench.clock.now = 10.0
    bench.say("mx1", 10.0, since="9-0")
    assert bench.look(10.0)
    assert not bench.believes(5)
    bench.say("mx2", 9.0, since="4-0")
    assert not bench.believes(5), "it is not proven to have heard until the keeper began"
    bench.say("mx2", 10.0, since="4-0")
    assert bench.believes(5)


async def test_shared_answer_without_proof(bench: Bench) -> None:
    """Where nobody vouches, or this host follows the table itself, others' words are not asked for."""
    assert not bench.believes(5)
    bench.say("mx1", 10.0, since="5-0")
    bench.look(10.0)
    bench.clock.now = 10.1 + PATIENCE
    assert not bench.believes(5)


async def test_who_has_vouched_for_memory(bench: Bench) -> None:
    """Those whose word holds without a break are written down, and not one that began after the last proof."""
    assert bench.watching.words() == ([], {})
    bench.say("mx1", 10.0)
    bench.look(10.0)
    bench.say("mx1", 11.0)
    bench.look(11.0)
    bench.clock.now = 11.5
    bench.say("mx2", 11.5)
    bench.look(11.5)
    [vouched], asked = bench.watching.words()
    assert asked == {"digest": {SERVER}}
    assert vouched.name == ("mx1", "run", "mail")
    assert vouched.tables == {"digest"}
    bench.say("mx1", 12.0)
    bench.look(12.0)
    assert {vouched.name[0] for vouched in bench.watching.words()[0]} == {"mx1", "mx2"}
    bench.knows(None)
    assert bench.watching.words() == ([], {})


async def test_memory_that_was_written_down(bench: Bench) -> None:
    """A table is unbroken while a follower vouches that did so before, for the server that is asked."""
    source = Vouched(("mx1", "run", "mail"), 1, frozenset({SERVER}), frozenset({"digest"}))
    bench.coverage.expect([source], 0.0)
    asked = {"digest": frozenset({SERVER})}
    bench.say("mx2", 10.0)
    assert bench.look(10.0)
    assert bench.watching.settle(asked) == []
    bench.say("mx1", 10.0)
    assert bench.watching.settle({"another": frozenset({SERVER})}) == []
    assert bench.watching.settle({"digest": frozenset({SERVER, "of another host"})}) == []
    assert bench.watching.settle(asked) == [bench.table]
    bench.knows("other")
    assert bench.watching.settle(asked) == []


async def test_servers_of_the_host_that_wrote_it(bench: Bench) -> None:
    """Where memory holds what another server said, whoever keeps the table must go on vouching for that one, too."""
    both = frozenset({SERVER, "of another host"})

    def say(host: str, servers: frozenset[str], moment: float) -> None:
        hears = {"mail": Hears(1, 0.0, servers, frozenset({"digest"}))}
        bench.coverage.heard(host, "run", hears, moment, bench.clock.now)
        bench.coverage.prove()

    tables = frozenset({"digest"})
    bench.coverage.expect([Vouched(("mx1", "run", "mail"), 1, both, tables)], 0.0)
    say("mx1", both, 10.0)
    assert bench.look(10.0)
    assert bench.watching.settle({"digest": both}) == [bench.table]
    bench.clock.now = 11.0
    say("mx2", frozenset({SERVER}), 11.0)
    say("mx1", both, 12.0)
    assert bench.look(12.0)
    bench.keep()
    bench.clock.now = 12.5 + PATIENCE
    say("mx2", frozenset({SERVER}), bench.clock.now)
    bench.look(bench.clock.now)
    assert bench.believed_until() < 12.0 + 300
