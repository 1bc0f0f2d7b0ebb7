from __future__ import annotations

from mailmapd.cluster.coverage import MOST_SOURCES, PATIENCE, Coverage, Source
from mailmapd.cluster.message import Hears

SERVER = frozenset({"server"})


def word(epoch: int = 1, age: float = 0.0, *tables: str) -> dict[str, Hears]:
    return {"mail": Hears(epoch, age, SERVER, frozenset(tables or ("table",)))}


def vouching(coverage: Coverage, now: float, table: str = "table") -> list[Source]:
    return list(coverage.vouching(SERVER, table, now))


def test_proof() -> None:
    """A word holds until the message that its sender had seen, less its age, once the stream is proven."""
    coverage = Coverage()
    coverage.heard("mx1", "run", word(age=0.5), 10.0, 11.0)
    assert vouching(coverage, 11.0) == []
    coverage.prove()
    [source] = vouching(coverage, 11.0)
    assert source.proven == 9.5
    assert source.since == {"table": 11.0}
    assert vouching(coverage, 9.5 + PATIENCE + 0.1) == []


def test_late_word() -> None:
    """A word that comes late, twice, or after too long says nothing new."""
    coverage = Coverage()
    coverage.heard("mx1", "run", word(), 10.0, 11.0)
    coverage.heard("mx1", "run", word(), 10.0, 17.0)
    coverage.heard("mx1", "run", word(), None, 18.0)
    coverage.prove()
    assert vouching(coverage, 18.0) == []
    assert [source.proven for source in vouching(coverage, 12.0)] == [10.0]


def test_break() -> None:
    """A new epoch, run or set of servers begins anew, and who relied on the one before hears of its end."""
    for change in (
        ("mx1", "run", word(epoch=2)),
        (
            "mx1",
            "run",
            {"mail": Hears(1, 0.0, frozenset({"server", "other"}), frozenset({"table"}))},
        ),
    ):
        coverage = Coverage()
        coverage.heard("mx1", "run", word(), 10.0, 10.0)
        coverage.prove()
        [before] = vouching(coverage, 10.0)
        coverage.heard(*change, 12.0, 12.0)
        assert not before.vouches(SERVER, "table", 12.0)
        coverage.prove()
        assert [source.since for source in vouching(coverage, 12.0)] == [{"table": 12.0}]


def test_tables_come_and_go() -> None:
    """A table that was left out once is vouched for from when it is named again."""
    coverage = Coverage()
    coverage.heard("mx1", "run", word(1, 0.0, "table", "more"), 10.0, 10.0)
    coverage.heard("mx1", "run", word(1, 0.0, "table"), 11.0, 11.0)
    coverage.heard("mx1", "run", word(1, 0.0, "table", "more"), 12.0, 12.0)
    coverage.prove()
    [source] = vouching(coverage, 12.0)
    assert source.since == {"table": 10.0, "more": 12.0}


def test_silence_about_a_database() -> None:
    """Who speaks and does not name a database any more vouches for nothing of it."""
    coverage = Coverage()
    coverage.heard("mx1", "run", word(), 10.0, 10.0)
    coverage.prove()
    coverage.heard("mx1", "run", {}, 11.0, 11.0)
    assert vouching(coverage, 11.0) == []


def test_servers() -> None:
    """A word about some servers is none about more of them."""
    coverage = Coverage()
    coverage.heard("mx1", "run", word(), 10.0, 10.0)
    coverage.prove()
    assert not list(coverage.vouching(SERVER | {"other"}, "table", 10.0))
    assert not list(coverage.vouching(SERVER, "other", 10.0))


def test_gap() -> None:
    """After a gap nobody is believed, whatever was said before it."""
    coverage = Coverage()
    coverage.heard("mx1", "run", word(), 10.0, 10.0)
    coverage.prove()
    [source] = vouching(coverage, 10.0)
    coverage.forget()
    coverage.prove()
    assert vouching(coverage, 10.0) == []
    assert not source.vouches(SERVER, "table", 10.0)


def test_made_up_words() -> None:
    """No more words are kept in mind than a large fleet says, whoever makes them up, and those of before still hold."""
    coverage = Coverage()
    coverage.heard("mx1", "run", word(), 10.0, 10.0)
    for number in range(2 * MOST_SOURCES):
        coverage.heard(f"host {number}", "run", word(), 10.0, 10.0)
    coverage.heard("mx1", "run", word(), 10.5, 10.5)
    coverage.prove()
    assert len(coverage.sources) == MOST_SOURCES
    assert max(source.proven for source in vouching(coverage, 10.5)) == 10.5


def test_table_that_is_not_logged() -> None:
    """Where any host has found that a table changes without its log saying so, nobody's word holds for it."""
    own: set[str] = set()
    coverage = Coverage(None, lambda: frozenset(own))
    coverage.heard("mx1", "run", word(1, 0.0, "table", "more"), 10.0, 10.0)
    coverage.prove()
    found = {"mail": Hears(1, 0.0, SERVER, frozenset({"more"}), unlogged=frozenset({"table"}))}
    coverage.heard("mx2", "run", found, 11.0, 11.0)
    coverage.heard("mx1", "run", word(1, 0.0, "table", "more"), 11.0, 11.0)
    coverage.prove()
    assert vouching(coverage, 11.0) == []
    assert len(vouching(coverage, 11.0, "more")) == 2
    coverage.heard("mx2", "run", word(1, 0.0, "more"), 12.0, 12.0)
    coverage.heard("mx1", "run", word(1, 0.0, "table", "more"), 12.0, 12.0)
    assert [source.since["table"] for source in vouching(coverage, 12.0)] == [12.0]
    own.add("table")
    coverage.leave_out()
    assert vouching(coverage, 12.0) == []


def test_followers_that_are_killed() -> None:
    """Who says nothing any more, not even that it ends, is no follower once its word does not hold."""
    coverage = Coverage()
    coverage.heard("mx1", "run", word(), 10.0, 10.0)
    coverage.prove()
    assert coverage.followers(10.0 + PATIENCE) == {"mx1"}
    assert coverage.followers(10.1 + PATIENCE) == set()
