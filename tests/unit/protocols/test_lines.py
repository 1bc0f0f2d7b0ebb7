from __future__ import annotations

import pytest

from mailmapd.errors import ProtocolError
from mailmapd.protocols.lines import REASONS, TOO_LONG, LineReader


def test_lines_come_one_by_one() -> None:
    """Lines that arrive together come out in order, without their LF; an empty line is a line."""
    reader = LineReader(10)
    reader.receive_data(b"a\n\nbc\nd")
    assert [reader.next_line() for _ in range(4)] == [b"a", b"", b"bc", None]
    assert reader.buffered == 1


def test_a_line_in_pieces() -> None:
    """A line comes out when its LF has arrived, however it was cut, and what follows the LF is kept."""
    reader = LineReader(10)
    for piece in (b"a", b"b", b"c"):
        reader.receive_data(piece)
        assert reader.next_line() is None
    reader.receive_data(b"d\ne")
    assert reader.next_line() == b"abcd"
    assert reader.next_line() is None
    reader.receive_data(b"\n")
    assert reader.next_line() == b"e"


def test_limit_includes_the_end() -> None:
    """A line may have the limit's bytes with its LF, and not one more."""
    reader = LineReader(4)
    reader.receive_data(b"abc\n")
    assert reader.next_line() == b"abc"
    reader.receive_data(b"abcd\n")
    with pytest.raises(ProtocolError) as caught:
        reader.next_line()
    assert caught.value.reason == TOO_LONG


def test_unfinished_line_is_limited() -> None:
    """A line without an end is refused once it cannot end within the limit any more."""
    reader = LineReader(4)
    reader.receive_data(b"abc")
    assert reader.next_line() is None
    reader.receive_data(b"d")
    with pytest.raises(ProtocolError):
        reader.next_line()


def test_a_good_line_before_a_long_one() -> None:
    """A complete line is handed out before the fault behind it is raised."""
    reader = LineReader(4)
    reader.receive_data(b"ab\nabcdef")
    assert reader.next_line() == b"ab"
    with pytest.raises(ProtocolError):
        reader.next_line()


def test_stays_refused() -> None:
    """After a refusal the reader drops what comes and raises the same error again."""
    reader = LineReader(2)
    reader.receive_data(b"abc")
    for _ in range(3):
        with pytest.raises(ProtocolError, match="longer than 2 bytes"):
            reader.next_line()
        reader.receive_data(b"a\n")
    assert reader.buffered == 0


def test_every_reason_is_listed() -> None:
    """REASONS holds the module's only word."""
    assert REASONS == (TOO_LONG,)
