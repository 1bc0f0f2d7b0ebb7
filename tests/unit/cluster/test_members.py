from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmapd.cluster.members import GONE, Member, decode_member, decode_members, gone

MEMBER = Member("run", "1.0", 1e9, "5-1", 7, "history", 0.5, None, "digest", ("mail",), 3, False)


def test_there_and_back() -> None:
    """A record says what was written, and where its host goes on."""
    assert decode_member(MEMBER.encode()) == MEMBER
    assert MEMBER.position.added == 7


@given(st.binary(max_size=99) | st.sampled_from([b"{}", b"[]", b"7", MEMBER.encode()[:-9]]))
def test_strangers_records(record: bytes) -> None:
    """What is no record is nobody's."""
    assert asyncio.run(decode_members({"mx1": record})) == {}


def test_records_that_want_to_be_obeyed() -> None:
    """A name, or a word of a record, that a terminal would obey is nobody's."""
    assert asyncio.run(decode_members({"mx1\x1b[2J": MEMBER.encode()})) == {}
    for change in ({"version": "1\n2"}, {"follows": ("mail\x9b31m",)}):
        assert decode_member(replace(MEMBER, **change).encode()) is None


async def test_very_many_records() -> None:
    """Records that are too long are nobody's, and lookups have their turn while very many are read."""
    long = json.dumps(json.loads(MEMBER.encode()) | {"history": "x" * 100_000}).encode()
    assert decode_member(long) is None
    records = {f"mx{number}": MEMBER.encode() for number in range(1000)}
    reading = asyncio.create_task(decode_members(records))
    turns = 0
    while not reading.done():
        turns += 1
        await asyncio.sleep(0)
    assert len(await reading) == 1000
    assert turns > 50


def test_confirmed() -> None:
    """A host has carried out what it has read; who has stopped properly is not waited for."""
    assert MEMBER.has("5-1", MEMBER.history)
    assert not MEMBER.has("5-1", "another"), "that of another server has the same id"
    assert not MEMBER.has("5-2", MEMBER.history)
    assert not MEMBER.has("10-0", MEMBER.history)
    assert replace(MEMBER, left=True).has("10-0", "another")


def test_gone() -> None:
    """A host is given up when others have been heard of a day after it."""
    late = replace(MEMBER, at=MEMBER.at + GONE + 1)
    assert gone({"old": MEMBER, "new": late}) == ["old"]
    assert gone({"old": MEMBER}) == []


@pytest.mark.parametrize(
    "change",
    [{"at": 10**400}, {"lag": 10**400}, {"added": 10**400}, {"at": math.inf}, {"lag": math.nan}],
    ids=["at", "lag", "added", "infinite", "none"],
)
def test_numbers_that_are_none(change: dict[str, float]) -> None:
    """A record with a number that cannot be shown, or reckoned with, is nobody's."""
    record = json.dumps(json.loads(MEMBER.encode()) | change).encode()
    assert asyncio.run(decode_members({"mx1": record})) == {}


def test_a_record_within_records() -> None:
    """A record without end is nobody's."""
    assert decode_member(b"[" * 100_000) is None
