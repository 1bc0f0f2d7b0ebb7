from __future__ import annotations

import os

import pytest

from mailmapd.config.size import check_size, size_in_bytes

MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MiB", 512 * 2**20), ("1.5 GiB", 3 * 2**29), ("64KiB", 65536), ("1000", 1000), ("7B", 7)],
)
def test_sizes(text: str, size: int) -> None:
    """A size has a unit, or is a number of bytes."""
    assert size_in_bytes(check_size(text)) == size


def test_numbers() -> None:
    """A number in the file is a number of bytes."""
    assert size_in_bytes(check_size(2**30)) == 2**30


def test_part_of_the_memory() -> None:
    """A part of the memory is at most that, and at least 64 MiB; the least machine remembers something."""
    assert 64 * 2**20 <= size_in_bytes("10%") <= max(64 * 2**20, MEMORY // 10)
    assert size_in_bytes("0.001%") == 64 * 2**20


@pytest.mark.parametrize(
    "value", ["", "much", "-1", "0", "10MB", "101%", "1e9", True, 1.5, None, []]
)
def test_no_sizes(value: object) -> None:
    """Anything else is refused, and the message says what to write."""
    with pytest.raises(ValueError, match='write "10%"'):
        check_size(value)
