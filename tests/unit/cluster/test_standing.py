from __future__ import annotations

import json
from typing import Any

import pytest

from mailmapd.cluster.coverage import BEFORE, Coverage, Vouched
from mailmapd.cluster.message import Hears
from mailmapd.cluster.reader import Position
from mailmapd.cluster.standing import Standing

X, Y = frozenset({"x"}), frozenset({"x", "y"})
FIRST = Vouched(("mx1", "run", "mail"), 3, X, frozenset({"one", "two"}))
STANDING = Standing("mailmapd", Position("7-1", 40, "history"), (FIRST,), {"one": X, "two": Y})


def hears(*tables: str, epoch: int = 3, servers: frozenset[str] = X) -> dict[str, Hears]:
    """Return the word of a follower."""
    return {"mail": Hears(epoch, 0.0, servers, frozenset(tables))}


def expecting() -> Coverage:
    """Return a coverage that begins where `FIRST` vouched."""
    coverage = Coverage()
    coverage.expect([FIRST], 0.0)
    return coverage


def unbroken(coverage: Coverage, table: str, now: float = 2.0) -> bool:
    """Return whether somebody vouches now who did so before."""
    return any(source.since[table] == BEFORE for source in coverage.vouching(X, table, now))


def test_written_down() -> None:
    """A standing comes back as it was written."""
    assert Standing.decode(json.loads(json.dumps(STANDING.encode()))) == STANDING


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("stream", None),
        ("last_id", "x"),
        ("last_id", 7),
        ("added", "x"),
        ("added", None),
        ("sources", None),
        ("asked", None),
        ("asked", {"one": 1}),
        ("sources", [{}]),
        ("sources", [{"name": ["a"], "epoch": 1, "servers": [], "tables": []}]),
        ("sources", [{"name": ["a", "b", "c"], "epoch": "x", "servers": [], "tables": []}]),
    ],
)
def test_anything_else(member: str, value: Any) -> None:
    """What is no standing is a ValueError, and nothing else."""
    written = STANDING.encode() | {member: value}
    if value is None:
        del written[member]
    with pytest.raises(ValueError, match="no place in a stream"):
        Standing.decode(written)
    with pytest.raises(ValueError, match="no place in a stream"):
        Standing.decode([])


def test_unbroken() -> None:
    """A follower that says the same as before, and says it now, has told everything since."""
    coverage = expecting()
    coverage.prove()
    assert not unbroken(coverage, "one"), "nobody has said anything yet"
    coverage.heard("mx1", "run", hears("one", "two"), BEFORE, 1.0)
    coverage.prove()
    assert not unbroken(coverage, "one"), (
        "what was said while this host was away proves nothing now"
    )
    coverage.heard("mx1", "run", hears("one", "two"), 1.5, 2.0)
    assert not unbroken(coverage, "one"), "the stream is not proven until there"
    coverage.prove()
    assert unbroken(coverage, "one")
    assert unbroken(coverage, "two")


@pytest.mark.parametrize(
    "word",
    [
        hears("one", "two", epoch=4),
        hears("one", "two", servers=Y),
        hears("two"),
        {},
        None,
    ],
)
def test_broken(word: dict[str, Hears] | None) -> None:
    """One that has begun anew, reads other servers or did not know the table meanwhile has perhaps missed something."""
    coverage = expecting()
    if word is None:
        coverage.forget()  # a gap
    else:
        coverage.heard("mx1", "run", word, BEFORE, 1.0)
    coverage.heard("mx1", "run", hears("one", "two"), 1.5, 2.0)
    coverage.heard("mx2", "run", hears("one", "two"), 1.5, 2.0)
    coverage.prove()
    assert not unbroken(coverage, "one")
    assert list(coverage.vouching(X, "one", 2.0)), "their word holds from now on"
