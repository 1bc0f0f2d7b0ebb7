"""Numbers as the dict protocol writes them: decimal digits, nothing else, within the range of a C type."""

from __future__ import annotations

import re
from typing import Final

UINT32_MAX: Final = 2**32 - 1
UINT64_MAX: Final = 2**64 - 1
INT64_MAX: Final = 2**63 - 1

_UNSIGNED: Final = re.compile(rb"[0-9]{1,20}")
_SIGNED: Final = re.compile(rb"-?[0-9]{1,19}")


def parse_unsigned(text: bytes, largest: int) -> int | None:
    """Return the number, or None when the text is none between 0 and `largest`."""
    if _UNSIGNED.fullmatch(text) is None:
        return None
    number = int(text)
    return number if number <= largest else None


def is_int64(text: bytes) -> bool:
    """Tell whether the text is a signed number of 64 bits."""
    return _SIGNED.fullmatch(text) is not None and -INT64_MAX - 1 <= int(text) <= INT64_MAX
