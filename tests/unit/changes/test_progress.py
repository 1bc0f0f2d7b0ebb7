from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from mailmapd.changes.progress import TRAIL, Mark, Progress
from mailmapd.databases.mysql.binlog.events import (
    Change,
    Event,
    Heartbeat,
    Kind,
    LogOpened,
    LogRotated,
    RowsChanged,
    StatementLogged,
    TransactionBegun,
    TransactionEnded,
    TransactionPrepared,
)
from mailmapd.databases.mysql.binlog.session import Committed, Place

ME = ("1", "host", "3306", "/var/lib/mysql", "")
UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
START = Place("binlog.000001", 500, "0-1-10")
OPENED: tuple[Event, ...] = (LogRotated("binlog.000001", 500), LogOpened(77))


def rows(position: int) -> RowsChanged:
    return RowsChanged("t", "a", Kind.INSERT, [Change(None, (b"x",))], position)


def transaction(number: int, *, at: int, when: int = 1000) -> list[Event]:
    """Return the events of one of MariaDB's that takes 100 bytes."""
    begun = TransactionBegun(f"0-1-{number}", at + 10, when + number)
    return [begun, rows(at + 50), TransactionEnded(at + 100)]


def begun(gtid: str, position: int, when: int) -> Event:
    return TransactionBegun(gtid, position, when)


def heard(progress: Progress, events: Iterable[Event]) -> Progress:
    for event in events:
        progress.add(event)
    return progress


def mariadb() -> Progress:
    return heard(Progress(START, is_mariadb=True), OPENED)


def test_marks_stand_between_transactions() -> None:
    """A mark is where the last complete transaction ends, with what proves it, whatever has begun behind it."""
    progress = heard(mariadb(), [*transaction(11, at=500), *transaction(12, at=600)[:2]])
    mark = progress.mark(ME)
    assert mark == Mark(
        ME, Place("binlog.000001", 600, "0-1-11"), 77, (("0-1-11", 1011),), "0-1-10"
    )
    assert progress.place == Place("binlog.000001", 650, "0-1-12")
    heard(progress, [TransactionEnded(700)])
    later = progress.mark(ME)
    assert later is not None
    assert later.place == Place("binlog.000001", 700, "0-1-12")
    assert later.trail == (("0-1-11", 1011), ("0-1-12", 1012))


def test_statements_of_mariadb_end_with_what_follows() -> None:
    """A statement that ends no transaction by itself is complete when another one begins, or nothing more comes."""
    ddl: list[Event] = [begun("0-1-11", 510, 1), StatementLogged("t", "TRUNCATE a", 600)]
    progress = heard(mariadb(), ddl)
    mark = progress.mark(ME)
    assert mark is not None
    assert mark.place.position == 500
    for last in (TransactionBegun("0-1-12", 610, 2), Heartbeat(600)):
        mark = heard(heard(mariadb(), ddl), [last]).mark(ME)
        assert mark is not None
        assert mark.place == Place("binlog.000001", 600, "0-1-11")


def test_no_mark_without_a_proof() -> None:
    """Where the time of the file, or of a transaction, is not known yet, there is no mark."""
    assert Progress(START, is_mariadb=True).mark(ME) is None
    progress = heard(mariadb(), [*transaction(11, at=500), LogRotated("binlog.000002", 4)])
    assert progress.mark(ME) is None
    mark = heard(progress, [LogOpened(88)]).mark(ME)
    assert mark is not None
    assert (mark.place, mark.created) == (Place("binlog.000002", 4, "0-1-11"), 88)
    assert Progress(Place(gtid=f"{UUID}:1-5"), is_mariadb=False).mark(ME) is None


def test_the_trail_is_short() -> None:
    """A mark names the last transactions only, and what was there before the first of them."""
    events = [event for n in range(20) for event in transaction(11 + n, at=500 + 100 * n)]
    mark = heard(mariadb(), events).mark(ME)
    assert mark is not None
    assert [gtid for gtid, _ in mark.trail] == [f"0-1-{number}" for number in range(31 - TRAIL, 31)]
    assert mark.before == f"0-1-{30 - TRAIL}"


def marked() -> Mark:
    mark = heard(mariadb(), [*transaction(11, at=500), *transaction(12, at=600)]).mark(ME)
    assert mark is not None
    return Mark.decode(json.loads(json.dumps(mark.encode())))


def test_the_same_file() -> None:
    """On the same server the file that is read on in proves its history by when it was begun."""
    for created, fault in ((77, ""), (78, "its log was begun anew")):
        before = Progress.after(marked(), is_mariadb=True, same_server=True)
        assert before.place == Place("binlog.000001", 700, "0-1-12")
        assert before.mark(ME) is None
        progress = heard(before, [LogRotated("binlog.000001", 700), LogOpened(created)])
        assert progress.fault == fault
        assert progress.is_proven
        assert progress.mark(ME) == (None if fault else marked())


def test_another_server() -> None:
    """On another one all transactions of the trail have to come again, at the same times; they repeat others."""
    progress = Progress.after(marked(), is_mariadb=True, same_server=False)
    assert progress.place == Place(gtid="0-1-10")
    heard(progress, [LogRotated("other.000009", 4), LogOpened(5)])
    repeated = []
    for event in (*transaction(11, at=900), *transaction(12, at=1000), *transaction(13, at=1100)):
        progress.add(event)
        repeated.append(progress.repeats)
    assert repeated == [True, True, False, True, True, False, False, False, False]
    assert progress.is_proven
    assert not progress.fault
    mark = progress.mark(ME)
    assert mark is not None
    assert mark.place == Place("other.000009", 1200, "0-1-13")
    wrong = Progress.after(marked(), is_mariadb=True, same_server=False)
    heard(wrong, [LogRotated("other.000009", 4), LogOpened(5), *transaction(11, at=900, when=1001)])
    assert wrong.fault


def test_what_is_not_known_does_not_repeat() -> None:
    """A transaction of another domain that was not heard is not passed over, where it comes before the trail's end."""
    progress = Progress.after(marked(), is_mariadb=True, same_server=False)
    heard(progress, transaction(11, at=900))
    progress.add(TransactionBegun("7-1-1", 1010, 5))
    assert not progress.repeats


def test_known_elsewhere() -> None:
    """A trail within one second tells nothing from another server that was busy in the same one."""
    assert marked().is_known_elsewhere
    mark = Mark(ME, START, 77, (("0-1-11", 5), ("0-1-12", 5)), "0-1-10")
    assert not mark.is_known_elsewhere


def test_mysql() -> None:
    """MySQL's last transaction comes again, repeats what was heard, and proves it by its time."""
    progress = Progress.after(
        Mark((), Place(gtid=f"{UUID}:1-5"), trail=((f"{UUID}:5", 0),), before=f"{UUID}:1-4"),
        is_mariadb=False,
        same_server=True,
    )
    first = StatementLogged("", "BEGIN", 120)
    events: list[Event] = [begun(f"{UUID}:5", 100, 99), first, rows(150)]
    for event in events:
        progress.add(event)
        assert progress.repeats
    assert progress.mark(ME) is None
    progress.add(TransactionEnded(200))
    mark = progress.mark(ME)
    assert mark == Mark(ME, Place(gtid=f"{UUID}:1-5"), 0, ((f"{UUID}:5", 99),), f"{UUID}:1-4")
    assert progress.has_heard(Place(gtid=f"{UUID}:1-5"))
    assert not progress.has_heard(Place(gtid=f"{UUID}:1-6"))
    ddl: list[Event] = [begun(f"{UUID}:6", 300, 100), StatementLogged("", "TRUNCATE a", 400)]
    assert heard(progress, ddl).has_heard(Place(gtid=f"{UUID}:1-6"))
    for committed in (99, 98):
        again = Progress.after(mark, is_mariadb=False, same_server=True)
        again.add(TransactionBegun(f"{UUID}:5", 100, committed))
        assert bool(again.fault) is (committed == 98)


def seen(progress: Progress, file: int, position: int, commits: int) -> int:
    """Return the last commit of those that were heard which is visible then, by its number."""
    shown = Committed(Place(f"binlog.00000{file}", position), commits)
    until, number = progress.visible(shown)
    ends = [end for at, end in progress._count._ends.items() if at <= until]
    return max(number, *ends, -1)


def test_places_that_prove_nothing() -> None:
    """A transaction is not visible because the log goes on in another file, or holds something else behind it."""
    progress = Progress(START, is_mariadb=True, shown=Committed(START, 40))
    heard(progress, [*OPENED, *transaction(11, at=500), *transaction(12, at=600)])
    assert progress.commits == 2
    assert seen(progress, 1, 600, 41) == 1
    heard(progress, [LogRotated("binlog.000002", 4), LogOpened(88)])
    assert seen(progress, 2, 300, 41) == 1
    assert seen(progress, 2, 300, 42) == 2
    heard(progress, transaction(13, at=300)[:2])
    assert progress.commits == 3
    heard(progress, transaction(13, at=300)[2:])
    assert seen(progress, 2, 440, 42) == 2  # at a checkpoint behind it
    assert seen(progress, 2, 400, 43) == 3


def test_what_a_mariadb_counts() -> None:
    """DDL is no commit; the end of a first phase is one, and that of a second."""
    in_two_phases: list[Event] = [
        TransactionBegun("0-1-12", 610, 2, stands_alone=True),
        StatementLogged("", "XA END X'78'", 650),
        TransactionPrepared(700),
        TransactionBegun("0-1-13", 710, 2, stands_alone=True),
        StatementLogged("", "XA COMMIT X'78'", 800),
    ]
    progress = Progress(START, is_mariadb=True, shown=Committed(START, 40))
    heard(progress, OPENED)
    progress.add(TransactionBegun("0-1-11", 510, 1, stands_alone=True))
    progress.add(StatementLogged("t", "TRUNCATE a", 600))
    assert progress.commits == 0
    assert seen(progress, 1, 600, 40) == 0
    numbers = []
    for event in in_two_phases:
        progress.add(event)
        numbers.append(progress.commits)
    assert numbers == [1, 1, 1, 2, 2]
    heard(progress, [begun("0-1-14", 810, 2), StatementLogged("t", "INSERT INTO a", 850)])
    assert progress.commits == 3
    heard(progress, [StatementLogged("t", "COMMIT", 900)])
    assert progress.commits == 3
    assert seen(progress, 1, 700, 41) == 1


def test_commits_are_counted_from_a_mark_on() -> None:
    """Behind a mark nobody knows how many commits there were, until all is heard that the server shows."""
    progress = Progress.after(marked(), is_mariadb=True, same_server=True)
    heard(progress, [LogRotated("binlog.000001", 700), LogOpened(77), *transaction(13, at=700)])
    assert seen(progress, 2, 300, 7) == -1
    heard(progress, [LogRotated("binlog.000002", 300), *transaction(14, at=300)])
    assert seen(progress, 2, 500, 7) == 1  # as the place that was shown before was heard now
    assert seen(progress, 2, 440, 7) == 1
    assert seen(progress, 2, 440, 8) == 2
    before = Committed(Place("binlog.000001", 600), 5)  # what was heard last was not visible yet
    progress = Progress.after(marked(), is_mariadb=True, same_server=True, shown=before)
    heard(progress, [LogRotated("binlog.000001", 700), LogOpened(77), *transaction(13, at=700)])
    assert seen(progress, 1, 600, 5) == -1
    assert seen(progress, 1, 700, 6) == 0
    assert seen(progress, 2, 300, 7) == 1
    assert (
        seen(progress, 1, 800, 6) == 1
    )  # a count that another session's question has made newer …
    assert seen(progress, 2, 340, 6) == 0  # … proves no more than before


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {},
        marked().encode() | {"position": -1},
        marked().encode() | {"created": True},
        marked().encode() | {"trail": [["0-1-1"]]},
        marked().encode() | {"trail": [[1, 1]]},
        marked().encode() | {"identity": [1]},
    ],
)
def test_no_marks(wrong: object) -> None:
    """What is no mark says so."""
    with pytest.raises(ValueError, match="no place in a log"):
        Mark.decode(wrong)
