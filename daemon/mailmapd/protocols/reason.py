"""Reasons of failures, made fit for any protocol: one short line of printable ASCII."""

from __future__ import annotations

import re
from typing import Final

REASON_LIMIT: Final = 200
"""The longest reason sent, in bytes: as much as Postfix logs of it (dict_sockmap(3))."""

_UNPRINTABLE: Final = re.compile(r"[^ -~]")


def safe_reason(reason: str) -> bytes:
    """Return the reason as one line.

    White space as single spaces, what is not printable ASCII as question marks, the rest cut off.
    """
    line = " ".join(reason[: 4 * REASON_LIMIT].split())
    return _UNPRINTABLE.sub("?", line)[:REASON_LIMIT].rstrip().encode("ascii")
