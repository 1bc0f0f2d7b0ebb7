from __future__ import annotations

import pytest

from mailmapd.protocols.dovecot_dict_numbers import UINT32_MAX, UINT64_MAX, is_int64, parse_unsigned


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"0", 0),
        (b"007", 7),
        (b"4294967295", UINT32_MAX),
        (b"4294967296", None),
        (b"", None),
        (b"-1", None),
        (b"+1", None),
        (b" 1", None),
        (b"1_0", None),
        (b"1\n", None),
        (b"9" * 5000, None),
        ("٣".encode(), None),
    ],
)
def test_unsigned(text: bytes, number: int | None) -> None:
    """Decimal digits up to the largest number are a number; signs, blanks, other digits and larger numbers are not."""
    assert parse_unsigned(text, UINT32_MAX) == number


def test_unsigned_64_bits() -> None:
    """A row limit may use all of its 64 bits."""
    assert parse_unsigned(b"18446744073709551615", UINT64_MAX) == UINT64_MAX
    assert parse_unsigned(b"18446744073709551616", UINT64_MAX) is None


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (b"-241", True),
        (b"9223372036854775807", True),
        (b"9223372036854775808", False),
        (b"-9223372036854775808", True),
        (b"-9223372036854775809", False),
        (b"-", False),
        (b"+1", False),
        (b"1.5", False),
        (b"1\n", False),
    ],
)
def test_signed(text: bytes, valid: bool) -> None:
    """A difference is a signed number of 64 bits."""
    assert is_int64(text) is valid
