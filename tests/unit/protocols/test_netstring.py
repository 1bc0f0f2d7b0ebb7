from __future__ import annotations

import pytest

from mailmapd.errors import ProtocolError
from mailmapd.protocols.netstring import (
    BAD_LENGTH,
    BAD_TERMINATOR,
    REASONS,
    TOO_LONG,
    NetstringReader,
    encode_netstring,
)


def read_all(data: bytes, limit: int = 1200) -> list[bytes]:
    reader = NetstringReader(limit)
    reader.receive_data(data)
    payloads = []
    while (payload := reader.next_payload()) is not None:
        payloads.append(payload)
    return payloads


def refusal(data: bytes, limit: int = 1200) -> str:
    with pytest.raises(ProtocolError) as caught:
        read_all(data, limit)
    return caught.value.reason


@pytest.mark.parametrize(
    "payload", [b"", b"a", b"five5", b"a,b:c", b"\0\n\xff", b"x" * 999, b"x" * 1000, b"x" * 1200]
)
def test_reads_what_it_writes(payload: bytes) -> None:
    """A payload of any bytes and any length up to the limit comes back."""
    assert read_all(encode_netstring(payload)) == [payload]


def test_length_counts_bytes() -> None:
    """The length of a payload with characters of several bytes is its length in bytes."""
    assert encode_netstring("é".encode()) == b"2:\xc3\xa9,"


def test_several_in_one_piece() -> None:
    """Payloads that arrive together come out one by one."""
    assert read_all(b"1:a,0:,2:bc,") == [b"a", b"", b"bc"]


@pytest.mark.parametrize(
    "data", [b"", b"1", b"12", b"1200", b"1:", b"5:abcde", b"1200:" + b"x" * 1200]
)
def test_waits_for_the_rest(data: bytes) -> None:
    """An unfinished netstring gives nothing and is kept."""
    reader = NetstringReader(1200)
    reader.receive_data(data)
    assert reader.next_payload() is None
    assert reader.buffered == len(data)


@pytest.mark.parametrize(
    "data",
    [
        b":",
        b":a,",
        b"x",
        b"GET / HTTP/1.1\r\n",
        b"1x",
        b"-1:",
        b"+1:a,",
        b" 1:a,",
        b"1_0:",
        b"01",
        b"01:a,",
        b"00:,",
        b"1\n",
    ],
)
def test_refuses_what_is_no_length(data: bytes) -> None:
    """A length is decimal digits without a leading zero, and anything else is refused as soon as it shows."""
    assert refusal(data) == BAD_LENGTH


@pytest.mark.parametrize("data", [b"1201:", b"9999:", b"12345", b"99999999999999999999"])
def test_refuses_a_long_payload_before_it_arrives(data: bytes) -> None:
    """A length over the limit is refused without waiting for its payload, and so are more digits than the limit has."""
    assert refusal(data) == TOO_LONG


def test_holds_short_lengths_to_the_limit() -> None:
    """A limit below a thousand holds."""
    assert read_all(b"2:ab,", limit=2) == [b"ab"]
    assert refusal(b"3:", limit=2) == TOO_LONG


@pytest.mark.parametrize("data", [b"1:ab", b"0:x", b"3:abc\n", b"1:a;"])
def test_refuses_a_payload_that_goes_on(data: bytes) -> None:
    """A comma must follow the payload."""
    assert refusal(data) == BAD_TERMINATOR


def test_stays_refused() -> None:
    """After a refusal the reader drops what comes and raises the same error again."""
    reader = NetstringReader(10)
    reader.receive_data(b"x")
    for _ in range(3):
        with pytest.raises(ProtocolError) as caught:
            reader.next_payload()
        assert caught.value.reason == BAD_LENGTH
        reader.receive_data(b"1:a,")
    assert reader.buffered == 0


def test_counts_what_waits() -> None:
    """The bytes of payloads already handed out no longer count as buffered."""
    reader = NetstringReader(10)
    reader.receive_data(b"1:a,2:bc,3")
    assert reader.buffered == 10
    reader.next_payload()
    assert reader.buffered == 6
    reader.next_payload()
    reader.next_payload()
    assert reader.buffered == 1


def test_every_reason_is_listed() -> None:
    """REASONS holds the words of this module, each once."""
    assert sorted(REASONS) == sorted({BAD_LENGTH, BAD_TERMINATOR, TOO_LONG})
