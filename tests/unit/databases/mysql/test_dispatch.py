"""Pool and dispatcher on scripted connections: the queue, the deadlines, the budget, and what
becomes of a lost statement.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from mailmapd.databases.mysql.login import LoginCut
from mailmapd.databases.mysql.pool import MAX_CUTS
from mailmapd.errors import DatabaseError, DatabaseOverloaded, DatabaseUnavailable, DataError
from mailmapd.model import ResultSet
from mailmapd.template.statement import Statement, Value
from support.scripted_connection import ScriptedDatabase, ScriptedOpener

Make = Callable[..., ScriptedDatabase]


@pytest.fixture
def opener() -> ScriptedOpener:
    return ScriptedOpener()


@pytest.fixture
async def make(opener: ScriptedOpener) -> AsyncIterator[Make]:
    """Make scripted databases; they are closed with the test."""
    made: list[ScriptedDatabase] = []

    def make_database(*hosts: str, **settings: float) -> ScriptedDatabase:
        made.append(ScriptedDatabase(opener, *hosts, **settings))
        return made[-1]

    yield make_database
    for database in made:
        await database.dispatcher.close()


class Asked:
    """One statement and what was told of it."""

    def __init__(self, database: ScriptedDatabase, number: int, **marks: bool) -> None:
        pieces = (b"SELECT '", Value(b"%d" % number), b"'")
        self.told: list[ResultSet | DatabaseError] = []
        self.job = database.dispatcher.submit(
            Statement("mailbox", pieces, True, **marks), self.told.append
        )

    @property
    def rows(self) -> object:
        """The rows that were told."""
        (result,) = self.told
        assert isinstance(result, ResultSet)
        return result.rows

    @property
    def error(self) -> DatabaseError:
        """The failure that was told."""
        (result,) = self.told
        assert isinstance(result, DatabaseError)
        return result


async def test_one_after_the_other(make: Make, opener: ScriptedOpener) -> None:
    """A reply settles its statement and sends the next one on the same connection, first come, first served."""
    database = make(pool_size=1)
    asked = [Asked(database, number) for number in range(3)]
    await opener.settle()
    (connection,) = opener.connections
    for number in range(3):
        assert len(connection.sent) == number + 1
        connection.reply(b"%d" % number)
    assert [question.rows for question in asked] == [((b"0",),), ((b"1",),), ((b"2",),)]
    assert connection.sent == [b"SELECT '0'", b"SELECT '1'", b"SELECT '2'"]


async def test_budget(make: Make, opener: ScriptedOpener) -> None:
    """However many statements wait, no more than pool_size connections are opened."""
    database = make(pool_size=3)
    for number in range(20):
        Asked(database, number)
    await opener.settle()
    assert len(opener.connections) == 3


async def test_full_queue(make: Make, opener: ScriptedOpener) -> None:
    """A statement beyond max_queued fails at once as an overload of our own."""
    database = make(pool_size=1, max_queued=2)
    asked = [Asked(database, number) for number in range(3)]
    await opener.settle()
    assert isinstance(asked[2].error, DatabaseOverloaded)
    assert asked[0].told == []


async def test_queue_deadline(make: Make, opener: ScriptedOpener) -> None:
    """A statement that waits for queue_timeout behind busy connections fails; the one that runs goes on."""
    database = make(pool_size=1, queue_timeout=3.0, query_timeout=60.0)
    runs, waits = Asked(database, 1), Asked(database, 2)
    await opener.settle()
    database.clock.now += 3.0
    database.dispatcher.housekeep()
    await opener.settle()
    assert "all connections were busy" in str(waits.error)
    opener.connections[0].reply(b"late")
    assert runs.rows == ((b"late",),)


async def test_query_deadline(make: Make, opener: ScriptedOpener) -> None:
    """A statement that runs for query_timeout fails with its connection, and its silent host is suspect."""
    database = make("db1", pool_size=1, query_timeout=5.0)
    asked = Asked(database, 1)
    await opener.settle()
    opener.failures["db1"] = DatabaseUnavailable("db1: still silent", host="db1")
    database.clock.now += 5.0
    database.dispatcher.housekeep()
    await opener.settle()
    assert "no reply within query_timeout" in str(asked.error)
    assert opener.connections[0].ended == "aborted"
    assert database.hosts.hosts[0].down


async def test_a_loss_is_tried_again_once(make: Make, opener: ScriptedOpener) -> None:
    """A statement that loses its connection is sent once more, and a second loss fails it."""
    database = make(pool_size=1)
    asked = Asked(database, 1)
    await opener.settle()
    opener.connections[0].lose()
    await opener.settle()
    assert opener.connections[1].sent == [b"SELECT '1'"]
    assert asked.told == []
    opener.connections[1].lose()
    await opener.settle()
    assert isinstance(asked.error, DatabaseUnavailable)


async def test_what_may_have_written_is_not(make: Make, opener: ScriptedOpener) -> None:
    """A statement that may have written fails with its connection; one that only reads is sent again."""
    database = make(pool_size=2)
    writes, reads = Asked(database, 1), Asked(database, 2, only_reads=True)
    await opener.settle()
    first, second = opener.connections
    first.read_only = second.read_only = False
    first.lose()
    second.lose()
    await opener.settle()
    assert "may have written" in str(writes.error)
    assert reads.told == []
    assert [connection.sent for connection in opener.connections[2:]] == [[b"SELECT '2'"]]


async def test_a_mode_that_does_not_fit(make: Make, opener: ScriptedOpener) -> None:
    """A statement that a connection would read otherwise fails alone, and those behind it are sent."""
    database = make(pool_size=1)
    odd = [Asked(database, number, needs_backslashes=True) for number in range(500)]
    plain = Asked(database, 7)
    opener_connection = opener.connections
    await opener.settle()
    assert opener_connection[0].sent  # with backslashes all of them fit
    opener_connection[0].quote = lambda raw: raw.replace(b"'", b"''")
    opener_connection[0].reply(b"0")
    await opener.settle()
    assert all(isinstance(question.error, DataError) for question in odd[1:])
    opener_connection[0].reply(b"7")
    assert plain.rows == ((b"7",),)


async def test_the_next_host(make: Make, opener: ScriptedOpener) -> None:
    """When one host refuses, its statements go to the other, and the first is left alone."""
    opener.failures["db1"] = DatabaseUnavailable("db1: refused", host="db1")
    database = make("db1", "db2", pool_size=4)
    asked = [Asked(database, number) for number in range(4)]
    await opener.settle()
    assert {connection.host for connection in opener.connections} == {"db2"}
    while any(not question.told for question in asked):
        for connection in list(opener.connections):
            if len(connection.sent) > connection.answered:
                connection.reply(b"x")
        await opener.settle()
    assert {host.label: host.down for host in database.hosts.hosts}["db2"] is False


async def test_every_host_is_down(make: Make, opener: ScriptedOpener) -> None:
    """While no host answers, statements fail at once, with each host's reason."""
    opener.failures["db1"] = DatabaseUnavailable("db1: refused", host="db1")
    database = make("db1")
    first = Asked(database, 1)
    await opener.settle()
    assert "no host answers: db1: refused" in str(first.error)
    second = Asked(database, 2)
    await opener.settle()
    assert "no host answers" in str(second.error)
    assert opener.attempts == ["db1"]


async def test_cut_logins(make: Make, opener: ScriptedOpener) -> None:
    """A host that lets us in and ends the connection is asked again, a few times, before it counts as down."""
    opener.failures["db1"] = LoginCut("db1: cut", host="db1")
    database = make("db1", pool_size=1)
    asked = Asked(database, 1)
    for _ in range(MAX_CUTS + 2):
        await opener.settle()
    assert len(opener.attempts) == MAX_CUTS + 1
    assert isinstance(asked.error, DatabaseUnavailable)


async def test_given_up(make: Make, opener: ScriptedOpener) -> None:
    """A statement whose caller has given up is not sent, and its connection serves the next one."""
    database = make(pool_size=1)
    runs, gone, waits = [Asked(database, number) for number in range(3)]
    gone.job.give_up()
    await opener.settle()
    opener.connections[0].reply(b"0")
    assert opener.connections[0].sent == [b"SELECT '0'", b"SELECT '2'"]
    opener.connections[0].reply(b"2")
    assert (runs.rows, gone.told, waits.rows) == (((b"0",),), [], ((b"2",),))


async def test_idle_connections_end(make: Make, opener: ScriptedOpener) -> None:
    """A connection that nobody used for idle_interval is closed."""
    database = make(pool_size=1, idle_interval=60.0)
    Asked(database, 1)
    await opener.settle()
    opener.connections[0].reply(b"x")
    database.clock.now += 59.0
    database.dispatcher.housekeep()
    assert len(database.hosts.hosts[0].idle) == 1
    database.clock.now += 2.0
    database.dispatcher.housekeep()
    assert opener.connections[0].ended == "closed"


async def test_an_open_transaction(make: Make, opener: ScriptedOpener) -> None:
    """A connection that a reply leaves in a transaction is not used again: its later answers would be old."""
    database = make(pool_size=1)
    asked = Asked(database, 1)
    await opener.settle()
    opener.connections[0].in_transaction = True
    opener.connections[0].reply(b"x")
    assert asked.rows == ((b"x",),)
    assert opener.connections[0].ended == "closed"
