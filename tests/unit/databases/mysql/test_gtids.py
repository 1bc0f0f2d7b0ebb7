from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmapd.databases.mysql.binlog.gtids import (
    MOST_DOMAINS,
    MOST_SPANS,
    GtidError,
    GtidSet,
    GtidState,
)

ONE = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
OTHER = "4e11fa47-71ca-11e1-9e33-c80aa9429562"
NUMBERS = st.sets(st.integers(1, 30))


def made(numbers: set[int]) -> GtidSet:
    found = GtidSet()
    for number in sorted(numbers, key=lambda number: number * 7 % 31):
        found.add(f"{ONE}:{number}")
    return found


def held(gtids: GtidSet) -> set[int]:
    return {number for number in range(1, 40) if f"{ONE}:{number}" in gtids}


@given(NUMBERS, NUMBERS, st.integers(1, 30))
def test_sets(some: set[int], others: set[int], number: int) -> None:
    """A set has what was added in any order, is written as MySQL would, and compares and loses as sets do."""
    gtids = made(some)
    assert held(gtids) == some
    assert held(GtidSet(str(gtids))) == some
    assert str(GtidSet(str(gtids))) == str(gtids)
    assert (gtids <= made(others)) == (some <= others)
    assert held(gtids.without(f"{ONE}:{number}")) == some - {number}
    assert held(gtids) == some


def test_written() -> None:
    """Texts of several servers, with line ends and intervals in any order, are read as one set."""
    gtids = GtidSet(f"{OTHER}:1,\n{ONE}:7-9:1-5:6")
    assert str(gtids) == f"{ONE}:1-9,{OTHER}:1"
    assert gtids.last(ONE) == f"{ONE}:9"
    assert gtids.last("5e11fa47-71ca-11e1-9e33-c80aa9429562") == f"{OTHER}:1"
    assert GtidSet().last(ONE) == ""
    assert f"{ONE}:9" in gtids
    assert f"{OTHER}:2" not in gtids


@pytest.mark.parametrize("text", [f"{ONE}:x", f"{ONE}:tag:1", "no-uuid:1", f"{ONE}:0"])
def test_no_sets(text: str) -> None:
    """What is no set says so."""
    with pytest.raises(GtidError):
        GtidSet(text)


def test_states() -> None:
    """A state has the last transaction of each domain, and is behind another when each of its domains is."""
    state = GtidState("5-2-7,0-1-100")
    state.add("0-3-101")
    assert str(state) == "0-3-101,5-2-7"
    assert GtidState("0-1-101") <= state
    assert not GtidState("0-1-102") <= state
    assert not GtidState("9-1-1") <= state
    assert GtidState() <= state
    with pytest.raises(GtidError):
        state.add("0-1")


def test_more_than_any_server_has() -> None:
    """Names of transactions with gaps, servers or domains without end are refused, and soon."""
    began = time.perf_counter()
    gaps = ":".join(str(2 * number + 1) for number in range(300_000))
    with pytest.raises(GtidError, match="more than 4096 gaps"):
        GtidSet(f"{ONE}:{gaps}")
    with pytest.raises(GtidError, match="more than 4096 domains"):
        GtidState(",".join(f"{number}-1-1" for number in range(300_000)))
    assert time.perf_counter() - began < 1.0
    gtids, state = GtidSet(), GtidState()
    for number in range(MOST_SPANS):
        gtids.add(f"{ONE}:{2 * number + 1}")
    with pytest.raises(GtidError):
        gtids.add(f"{OTHER}:1")
    for number in range(MOST_DOMAINS):
        state.add(f"{number}-1-1")
    with pytest.raises(GtidError):
        state.add(f"{MOST_DOMAINS}-1-1")
    assert held(GtidSet(f"{ONE}:{':'.join(map(str, range(1, 8001, 2)))}")) == set(range(1, 40, 2))
