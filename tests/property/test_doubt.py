"""Doubts of a cache against a model that looks at every entry: nothing is believed for longer than it may be."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from mailmapd.cache import TableCache
from mailmapd.config.schema import CacheSection, Seconds

TTL = 100.0
SETTINGS = evolve(
    CacheSection(), ttl=Seconds(TTL), refresh_ahead=0.0, jitter=0.0, stale_ttl=Seconds(1e6)
)
LONG = 5000.0
KEYS = [b"a", b"b"]
STEPS = st.lists(
    st.sampled_from(
        ["store", "doubt", "believe", "for good", "distrust", "sweep", "load", "clear"]
    ),
    min_size=15,
    max_size=40,
)


class Modelled:
    """An entry: until when it is fresh, moments from which the ordinary time counts, and the same in doubt."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.moments: list[float] = []
        self.doubts: list[float] = []

    def fresh_until(self) -> float:
        """Return until when the entry is fresh."""
        return min([self.until, *[moment + TTL for moment in (*self.moments, *self.doubts)]])


@given(STEPS, st.data())
def test_doubts(steps: list[str], data: st.DataObject) -> None:
    """What is believed again is as if it had never been in doubt; what is not, or was distrusted meanwhile, is not."""
    cache, model, now = TableCache(SETTINGS), dict[bytes, Modelled](), 1000.0
    is_exact = True
    for step in steps:
        now += 10.0
        key = data.draw(st.sampled_from(KEYS))
        if step == "store":
            cache.store(key, b"v", now, LONG)
            model[key] = Modelled(now + LONG)
        elif step in {"doubt", "distrust"}:
            moment = now - data.draw(st.sampled_from([0.0, 5.0, 15.0]))
            (cache.doubt if step == "doubt" else cache.distrust)(moment)
            for entry in model.values():
                (entry.doubts if step == "doubt" else entry.moments).append(moment)
                # It counts from the earlier of both then, also when the doubt is taken back
                is_exact = is_exact and not (entry.doubts and entry.moments)
        elif step in {"believe", "for good"}:
            cache.settle(believed=step == "believe")
            for entry in model.values():
                entry.moments += entry.doubts if step == "for good" else []
                entry.doubts.clear()
        elif step == "sweep":
            list(cache.sweep(lambda now=now: now, 1))  # type: ignore[misc]
        elif step == "load":
            before = now - 50.0
            cache.load_in_doubt(before)
            if cache.restore(key, (b"v", now + LONG), now):
                model[key] = Modelled(now + LONG)
                model[key].doubts.append(before)
        else:
            cache.clear()
            model.clear()
        for key, entry in model.items():
            found = cache.peek(key)
            assert found is not None
            assert found[1] <= entry.fresh_until()
            if is_exact:
                assert found[1] > entry.fresh_until() - 0.1
