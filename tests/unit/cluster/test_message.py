from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmapd.changes.touched import SomeParts, Touched
from mailmapd.cluster.message import (
    FIELD,
    MOST_BYTES,
    MOST_KEYS,
    OVERLONG,
    SIGNATURE_FIELD,
    Codec,
    Hears,
    Message,
    NotUnderstood,
    Stranger,
    split,
)

TABLES = st.sampled_from(["aa", "bb", "cc"])
KEYS = st.sets(st.binary(max_size=40), min_size=1, max_size=5)
PARTS = st.sets(
    st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=9)), max_size=3).map(tuple),
    min_size=1,
    max_size=3,
)
TOUCHED = st.builds(
    Touched,
    keys=st.dictionaries(TABLES, KEYS, max_size=2),
    parts=st.dictionaries(TABLES, PARTS, max_size=2),
    whole=st.sets(st.sampled_from(["dd", "ee"])),
)
HEARS = st.builds(
    Hears,
    st.integers(0, 9),
    st.integers(0, 9000).map(lambda number: number / 1000),
    st.frozensets(TABLES),
    st.frozensets(TABLES),
    st.sampled_from(["", "1790000000000-0"]),
)
HEARD: dict[str, object] = {"epoch": 1, "age": 0, "since": "", "servers": [], "tables": []}
MESSAGES = st.builds(
    Message,
    st.text(max_size=9),
    st.text(max_size=9),
    st.just("17-4"),
    st.none() | TOUCHED,
    st.none() | st.just({"user": "a@b"}),
    st.none() | st.dictionaries(st.text(max_size=3), HEARS, max_size=2),
    st.sampled_from(["", "5d0c"]),
)


@given(MESSAGES, st.sampled_from([b"", b"key"]))
def test_there_and_back(message: Message, key: bytes) -> None:
    """What one host writes is what the other reads, keys of any bytes included, in ASCII."""
    codec = Codec(key)
    fields = codec.encode(message)
    assert fields[FIELD].isascii()
    assert codec.decode(fields) == message


@given(st.binary(max_size=200) | st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["v", "host", "run", "seen", "forget", "flush", "hears", "keys", "parts", "mail", "epoch"]), inner, max_size=7),
    max_leaves=20).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_anything_else(text: bytes) -> None:
    """Whatever stands in the stream is a message or is not understood; nothing else comes of it."""
    try:
        Codec().decode({FIELD: text})
    except NotUnderstood:
        return


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": "1"},
        {"more": 1},
        {"seen": "now"},
        {"seen": "-1"},
        {"seen": "9" * 5000 + "-0"},
        {"host": 7},
        {"forget": {"aa": {"keys": [1]}}},
        {"forget": {"aa": {"all": True, "some": 1}}},
        {"hears": {"mail": {"epoch": 1, "age": -1, "servers": [], "tables": []}}},
        {"hears": {"mail": {"epoch": 1, "age": 0, "servers": [], "tables": [], "not": []}}},
        {"hears": {"mail": HEARD | {"age": 10**400}}},
        {"hears": {"mail": HEARD | {"servers": "abc"}}},
        {"hears": {"mail": HEARD | {"tables": [1]}}},
        {"hears": {"mail": HEARD | {"tables": ["x" * 300]}}},
        {"hears": {"mail": HEARD | {"servers": ["x"] * 300}}},
        {"hears": {f"{number}": HEARD for number in range(100)}},
        {"host": "x" * 300},
        {"flush": "all"},
    ],
)
def test_not_understood(change: Mapping[str, object]) -> None:
    """A message of which anything is not understood is not understood at all."""
    members = json.loads(Codec().encode(Message("a", "b"))[FIELD]) | dict(change)
    with pytest.raises(NotUnderstood):
        Codec().decode({FIELD: json.dumps(members).encode()})


def test_signature() -> None:
    """With a key only those are heard who have it, and their words as they said them."""
    fields = Codec(b"key").encode(Message("mx1", "run"))
    for other in (
        {FIELD: fields[FIELD]},
        fields | {SIGNATURE_FIELD: b"00"},
        fields | {FIELD: fields[FIELD].replace(b"mx1", b"mx2")},
        Codec(b"other").encode(Message("mx1", "run")),
    ):
        with pytest.raises(Stranger):
            Codec(b"key").decode(other)
    assert "key" not in repr(Codec(b"a key"))
    assert Codec().decode(fields) == Message("mx1", "run")


def test_overlong() -> None:
    """What was too long to be read is doubted, with a key as well: it may have hidden what was signed."""
    for codec in (Codec(), Codec(b"key")):
        for name in (FIELD, SIGNATURE_FIELD):
            with pytest.raises(NotUnderstood):
                codec.decode(codec.encode(Message("mx1", "run")) | {name: OVERLONG})


@pytest.mark.parametrize(
    "said",
    [
        {"forget": {"aa": {"keys": [""] * (MOST_KEYS + 1)}}},
        {"forget": {"aa": {"keys": [""] * MOST_KEYS}, "bb": {"parts": [[["u", "x"]]]}}},
        {"forget": {"aa": {"parts": [[[str(number), "x"] for number in range(5000)]]}}},
        {"forget": {"aa": {"keys": "info@example.com"}}},
        {"forget": {str(number): {} for number in range(5000)}},
        {
            "hears": {
                str(number): {
                    "epoch": 1,
                    "age": 0,
                    "since": "",
                    "servers": [],
                    "tables": ["x"] * 4000,
                }
                for number in range(3)
            }
        },
    ],
)
def test_more_than_ours(said: dict[str, object]) -> None:
    """A message that says more than one of ours can is not understood, before any of it is looked at closely."""
    members = {"v": 1, "host": "a", "run": "r", "seen": "0-0"} | said
    with pytest.raises(NotUnderstood):
        Codec().decode({FIELD: json.dumps(members).encode()})


def test_longest_keys() -> None:
    """However long the keys are, and however many bytes each of theirs takes, no message is longer than is read."""
    keys = {b"\xff" * 1020 + b"%d" % number for number in range(1000)}
    parts: set[SomeParts] = {(("d", b"\xff" * 999), ("u", b"%d" % number)) for number in range(500)}
    pieces = split(Touched({"a" * 16: keys}, {"b" * 16: parts}))
    assert sum(len(named) for piece in pieces for named in piece.keys.values()) == len(keys)
    assert sum(len(named) for piece in pieces for named in piece.parts.values()) == len(parts)
    for piece in pieces:
        text = Codec(b"key").encode(Message("mx1", "run", forget=piece))[FIELD]
        assert len(text) <= MOST_BYTES


@given(st.integers(0, 3 * MOST_KEYS), st.integers(0, 3), st.booleans())
def test_split(keys: int, parts: int, whole: bool) -> None:
    """However much was touched, messages stay small, and together they say all of it and nothing more."""
    touched = Touched(
        {"aa": {b"%d" % number for number in range(keys)}} if keys else {},
        {"bb": {(("d", b"%d" % number),) for number in range(parts)}} if parts else {},
        {"cc"} if whole else set(),
    )
    said = Touched()
    for piece in split(replace(touched)):
        sizes = [len(some) for some in piece.keys.values()] + [
            len(some) for some in piece.parts.values()
        ]
        assert sum(sizes) <= MOST_KEYS
        said.whole |= piece.whole
        for kind in ("keys", "parts"):
            for table, values in getattr(piece, kind).items():
                getattr(said, kind).setdefault(table, set()).update(values)
    assert said == touched
