from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmapd.cache import ABSENCE
from mailmapd.state.cache_file import (
    BLOCK_LIMIT,
    DIGEST_SIZE,
    MAGIC,
    CacheFileError,
    CacheFileWriter,
    CacheRecord,
    TableHeader,
    blocks,
    check,
    decode_records,
    encode_record,
)

TABLE = TableHeader(b"d" * DIGEST_SIZE, "alias")
RECORDS = [
    CacheRecord(b"user@example.com", b"example.com/user/", 1000.5),
    CacheRecord(b"none@example.com", ABSENCE, 2000.0),
    CacheRecord(b"two@example.com", (b"a@example.com", b"", b"b@example.com"), -1.0),
    CacheRecord(b"", b"", 0.0),
]

records = st.builds(
    CacheRecord,
    st.binary(),
    st.just(ABSENCE) | st.binary() | st.lists(st.binary()).map(tuple),
    st.floats(allow_nan=False, allow_infinity=False),
)


def file_of(*found: CacheRecord, written_at: float = 5.0) -> bytes:
    stream = BytesIO()
    writer = CacheFileWriter(stream, written_at)
    writer.table(TABLE)
    writer.records(encode_record(record) for record in found)
    writer.finish()
    return stream.getvalue()


def read(data: bytes) -> tuple[float, list[TableHeader | CacheRecord]]:
    stream = BytesIO(data)
    written_at = check(stream)
    found: list[TableHeader | CacheRecord] = []
    for block in blocks(stream):
        if isinstance(block, TableHeader):
            found.append(block)
        elif isinstance(block, bytes):
            found += decode_records(block)
    return written_at, found


def test_kinds() -> None:
    """Every kind of entry comes back as it was, behind its table."""
    assert read(file_of(*RECORDS)) == (5.0, [TABLE, *RECORDS])


@given(st.lists(records))
def test_any_entries(found: list[CacheRecord]) -> None:
    """Whatever keys and values are, they come back."""
    assert read(file_of(*found))[1] == [TABLE, *found]


def test_many_blocks() -> None:
    """More than a block of entries is several blocks; an entry that is longer than a block is left out."""
    value = b"v" * (BLOCK_LIMIT // 3)
    found = [CacheRecord(b"%d" % number, value, 1.0) for number in range(10)]
    data = file_of(*found[:5], CacheRecord(b"long", b"v" * BLOCK_LIMIT, 1.0), *found[5:])
    assert len(list(blocks(BytesIO(data)))) == 1 + 5
    assert read(data)[1] == [TABLE, *found]


def test_every_cut() -> None:
    """A file that ends early, wherever, is refused."""
    data = file_of(*RECORDS)
    for size in range(len(data)):
        with pytest.raises(CacheFileError):
            check(BytesIO(data[:size]))


def test_every_changed_byte() -> None:
    """A file with one changed byte, wherever, is refused."""
    data = file_of(*RECORDS)
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 0x41
        with pytest.raises(CacheFileError):
            check(BytesIO(bytes(damaged)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no cache file"),
        (b"SQLite format 3\0" + b"\0" * 100, "no cache file"),
        (MAGIC + b"\1" + b"\0" * 100, "written by another version"),
        (MAGIC + b"\2", "ends early"),
        (file_of(*RECORDS) + b"x", "damaged"),
        (file_of(written_at=float("nan")), "damaged"),
    ],
)
def test_foreign(data: bytes, words: str) -> None:
    """Another program's file, another version's and one with something behind its end are refused,
    and the reason is named.
    """
    with pytest.raises(CacheFileError, match=words):
        check(BytesIO(data))


@given(st.binary())
def test_garbage(data: bytes) -> None:
    """Any bytes in the place of entries are entries or a CacheFileError."""
    try:
        found = list(decode_records(data))
    except CacheFileError:
        return
    assert b"".join(encode_record(record) for record in found) == data


def test_huge_numbers() -> None:
    """A number that promises more than there is asks for no memory."""
    start = encode_record(CacheRecord(b"k", (b"v",), 1.0))[: -len(b"\1\0\0\0\1\0\0\0v")]
    with pytest.raises(CacheFileError):
        list(decode_records(start + b"\xff\xff\xff\xff" + b"\0" * 100))
