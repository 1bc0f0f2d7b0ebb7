"""Remembered replies against a model: whatever is remembered, touched and aged, no reply outlives its parts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmapd.engine.answered import Answered, Part, Use
from mailmapd.engine.invalidation import Invalidation
from mailmapd.engine.meters import LookupMeter
from mailmapd.model import Found
from mailmapd.server import reply_cache
from mailmapd.server.reply_cache import ReplyCache

REQUESTS, KEYS = st.integers(0, 11), st.sets(st.integers(0, 3), min_size=1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("remember"), REQUESTS, KEYS),
        st.tuples(st.just("remember"), REQUESTS, KEYS),
        st.tuples(st.just("touch"), st.just(0), KEYS),
        st.tuples(st.sampled_from(["age", "forget all"]), st.just(0), KEYS),
    ),
    min_size=20,
    max_size=80,
)


class Counted:
    """A table that lookups count for; it has the name of a table."""

    name = "t"
    hits = negative_hits = avoided = 0


def answered(keys: set[int]) -> Answered:
    """Return an answer that was made of these entries of one table."""
    counted: Any = Counted()
    use = Use(counted, LookupMeter("l", "m"), 0, (Part(counted, absent=False),) * len(keys))
    return Answered(Found(b"x"), 1.0, use, tuple(b"%d" % key for key in keys))


@given(STEPS, st.integers(1, 20))
def test_no_reply_outlives_its_parts(steps: list[tuple[str, int, set[int]]], turn: int) -> None:
    """A reply is found only while nothing that it was made of was touched, and it is the last one that was remembered.

    Where a part is touched that very many replies share, they are left out at once and dropped one after the other.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reply_cache, "_MANY", 2)
        patch.setattr(reply_cache, "_THINNED", 1)
        cache, model = ReplyCache(generation=turn), dict[int, tuple[bytes, set[int]]]()
        for step, (action, request, keys) in enumerate(steps):
            if action == "remember":
                reply = b"%d" % step
                cache.remember(b"%d" % request, reply, answered(keys))
                model[request] = reply, keys
            elif action == "touch":
                cache.forget(Invalidation("t", frozenset(b"%d" % key for key in keys)))
                model = {name: kept for name, kept in model.items() if not kept[1] & keys}
            elif action == "age":
                cache.age()
            else:
                cache.forget_all()
                model.clear()
            for name in range(12):
                found = cache.find(b"%d" % name, 0.0)
                assert found is None or (name in model and found[0] == model[name][0])
            if action == "remember":
                assert cache.find(b"%d" % request, 0.0) is not None
