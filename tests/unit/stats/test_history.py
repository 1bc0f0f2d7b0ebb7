from __future__ import annotations

import copy
from typing import cast

import pytest

from mailmapd.engine.meters import BUCKETS, LookupMeter
from mailmapd.engine.outcome import Source
from mailmapd.model import NOT_FOUND
from mailmapd.stats.history import MINUTES, History
from mailmapd.stats.snapshot import Snapshot, lookups_by_name


def snapshot(meter: LookupMeter, time: float, avoided: int = 0) -> Snapshot:
    """The part of a snapshot that history reads."""
    maps = copy.deepcopy(lookups_by_name([meter], {"aliases": avoided}))
    return cast("Snapshot", {"time": time, "buckets": list(BUCKETS), "maps": maps, "dicts": {}})


def test_a_minute_is_what_its_counters_grew_by() -> None:
    """A minute's rate, share from memory, p99 and spared SELECTs are those of that minute alone."""
    history, meter = History(), LookupMeter("socketmap", "aliases")
    for _ in range(1000):
        meter.count(NOT_FOUND, Source.DATABASE, 1.0)
    history.add(snapshot(meter, 0.0, avoided=500))
    for _ in range(594):
        meter.count(NOT_FOUND, Source.CACHE, 0.000003)
    for _ in range(6):
        meter.count(NOT_FOUND, Source.DATABASE, 0.002)
    history.add(snapshot(meter, 60.0, avoided=1100))
    [minute] = history.minutes(list(BUCKETS))
    assert (minute.when, minute.rate, minute.avoided_rate) == (60.0, 10.0, 10.0)
    assert minute.from_memory == pytest.approx(0.99)
    assert minute.p99 is not None
    assert minute.p99 <= 0.000005


def test_ticks_within_a_minute_add_nothing() -> None:
    """However often it is told, history has one mark a minute, and an hour of them."""
    history, meter = History(), LookupMeter("socketmap", "aliases")
    for second in range(0, 2 * 3600, 10):
        history.add(snapshot(meter, float(second)))
    minutes = history.minutes(list(BUCKETS))
    assert len(minutes) == MINUTES
    assert minutes[-1].when == 7140.0


def test_a_minute_without_lookups_has_no_share_and_no_latency() -> None:
    """Nothing asked is not 0 % from memory."""
    history, meter = History(), LookupMeter("socketmap", "aliases")
    history.add(snapshot(meter, 0.0))
    history.add(snapshot(meter, 60.0))
    [minute] = history.minutes(list(BUCKETS))
    assert (minute.rate, minute.from_memory, minute.p99) == (0.0, None, None)


def test_counters_that_shrink_count_as_nothing() -> None:
    """A reload that takes a map away makes no minute negative."""
    history, meter = History(), LookupMeter("socketmap", "aliases")
    for _ in range(100):
        meter.count(NOT_FOUND, Source.CACHE, 0.000003)
    history.add(snapshot(meter, 60.0, avoided=50))
    history.add(snapshot(LookupMeter("socketmap", "aliases"), 120.0))
    [minute] = history.minutes(list(BUCKETS))
    assert (minute.rate, minute.avoided_rate, minute.from_memory) == (0.0, 0.0, None)


def test_a_clock_that_is_put_back_begins_anew() -> None:
    """No minute is made of two times of which the later one is the earlier."""
    history, meter = History(), LookupMeter("socketmap", "aliases")
    for time in (100_000.0, 100_060.0, 50_000.0):
        history.add(snapshot(meter, time))
    assert history.minutes(list(BUCKETS)) == []
    history.add(snapshot(meter, 50_060.0))
    assert [minute.when for minute in history.minutes(list(BUCKETS))] == [50_060.0]
