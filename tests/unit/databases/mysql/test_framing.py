"""Packets, whoever reads them."""

from __future__ import annotations

import pytest

from mailmapd.databases.mysql.framing import MAX_PACKET, PacketReader, WireError, encode_payload


class Collector(PacketReader):
    """Keeps payloads until an empty one."""

    def __init__(self, max_payload: int = 1000) -> None:
        super().__init__(max_payload)
        self.payloads: list[bytes] = []
        self._expect = Collector._keep

    def _keep(self, data: bytes, start: int, end: int) -> bool:
        self.payloads.append(data[start:end])
        return start == end


def test_any_stream() -> None:
    """A reader of its own gets whole payloads, in whatever pieces they come."""
    whole = encode_payload(b"one", 1) + encode_payload(b"", 2)
    for size in range(1, len(whole) + 1):
        reader = Collector()
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert [reader.receive_data(piece) for piece in pieces][-1]
        assert reader.payloads == [b"one", b""]


def test_wrong_number() -> None:
    """A packet out of order is a violation."""
    with pytest.raises(WireError, match="packet 3 came where 1 was due"):
        Collector().receive_data(encode_payload(b"x", 3))


def test_limit() -> None:
    """A payload beyond the limit is refused as soon as its length is known."""
    with pytest.raises(WireError, match="more than 1000 bytes"):
        Collector().receive_data(b"\xe9\x03\0\x01x")


def test_long_payload() -> None:
    """A payload of 16 MiB and more is several packets, numbered on, and comes back as one."""
    payload = b"y" * (MAX_PACKET + 7)
    data = encode_payload(payload, 255)
    assert data[MAX_PACKET + 4 :][3] == 0
    reader = Collector(1 << 30)
    reader._restart(255)
    assert not reader.receive_data(data)
    assert reader.payloads == [payload]
