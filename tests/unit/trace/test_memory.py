"""What `trace` says of a daemon's memory."""

from __future__ import annotations

import pytest

from mailmapd.engine.look import Held
from mailmapd.trace.memory import described


@pytest.mark.parametrize(
    ("held", "phrase"),
    [
        (Held("nothing"), "nothing"),
        (Held("fresh", True, 70.0), "a row, fresh for 1 m 10 s, not followed"),
        (Held("fresh", True, 70.0, followed=True), "a row, followed: kept until it changes"),
        (Held("refresh", True, -10.0), "a row, which answers, and is fetched anew"),
        (Held("refresh", False, 0.0), "no row, which answers, and is fetched anew"),
        (Held("stale", True, -420.0), "a row, stale for 420 s: the database is asked"),
    ],
)
def test_what_a_lookup_would_do(held: Held, phrase: str) -> None:
    """Each age is told as what a lookup does with it."""
    assert described(held).startswith(phrase)
