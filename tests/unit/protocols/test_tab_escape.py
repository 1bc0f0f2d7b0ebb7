from __future__ import annotations

import pytest

from mailmapd.protocols.tab_escape import escape, split, unescape


@pytest.mark.parametrize(
    ("value", "argument"),
    [
        (b"", b""),
        (b"plain", b"plain"),
        (b"\x01", b"\x011"),
        (b"\0", b"\x010"),
        (b"a\tb\nc\rd", b"a\x01tb\x01nc\x01rd"),
        (b"\x01t", b"\x011t"),
        (b"\xff\xc3\xa9 \\%", b"\xff\xc3\xa9 \\%"),
    ],
)
def test_both_ways(value: bytes, argument: bytes) -> None:
    """The five bytes that would end an argument or a line are escaped, and come back."""
    assert escape(value) == argument
    assert unescape(argument) == value


@pytest.mark.parametrize(
    ("argument", "value"), [(b"a\x01", b"a"), (b"\x01x\x01\x01", b"x\x01"), (b"\x01\n", b"\n")]
)
def test_odd_escapes_mean_what_dovecot_means(argument: bytes, value: bytes) -> None:
    """An escape of another byte is that byte, and a lone escape at the end is nothing."""
    assert unescape(argument) == value


def test_splits_before_it_unescapes() -> None:
    """An escaped TAB does not separate arguments."""
    assert split(b"a\x01tb\t\tc") == [b"a\tb", b"", b"c"]
    assert split(b"") == [b""]
