from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bench import fleet_day
from bench.fleet import day_lines, split_lines
from bench.fleet_bus import Carried
from bench.fleet_day import BIN, Fleet, Result, Scenario, SecondLevel, simulate
from bench.mail import Recipients
from bench.rows.day import FOLLOWED, SETTINGS, Day
from mailmapd.cache.table_cache import TableCache
from mailmapd.config.schema import CacheSection

RECIPIENTS = 2_000
HOUR = 3600.0
SEED = 4
CALM = Scenario("default times", SEED, hosts=3, recipients=2_500, lasts=2 * HOUR, busy_changes=400)
BUS = replace(CALM, name="bus", bus=True)
SECOND = replace(BUS, name="second level", second_level=True)
SPLIT = (HOUR, HOUR + 600)


@pytest.fixture(scope="module")
def calm() -> list[Result]:
    """A fleet with ordinary times, with the bus and with the second level, and nothing goes wrong."""
    return [simulate(scenario) for scenario in (CALM, BUS, SECOND)]


@pytest.fixture(scope="module")
def split() -> list[Result]:
    """The latter two, half of whose hosts are cut off in the middle."""
    return [simulate(replace(scenario, split=SPLIT, cold=1.5 * HOUR)) for scenario in (BUS, SECOND)]


@pytest.mark.parametrize("bus", [False, True])
def test_one_host_is_that_of_row_8(bus: bool) -> None:
    """A fleet of one host asks exactly what the day of row 8 asks, with ordinary times and with changes followed."""
    settings = SETTINGS[FOLLOWED]
    host = Day(settings, followed=bus)
    asyncio.run(host.pass_by(RECIPIENTS, random.Random(2), random.Random(3)))
    fleet = Fleet(Scenario("one", 0, 1, RECIPIENTS, bus=bus))
    passing = fleet.pass_by(Recipients(random.Random(2)), random.Random(3), random.Random(4))
    assert asyncio.run(passing).selects == host.database.selects


def test_fewer_selects(calm: list[Result]) -> None:
    """With the bus a fleet asks less than with ordinary times, and with the second level less than that."""
    default, bus, second = calm
    assert second.selects < bus.selects < default.selects
    assert second.selects + second.taken >= bus.selects * 0.99
    assert all(sum(result.bins) == result.selects for result in calm)


def test_nothing_is_outdated(calm: list[Result], split: list[Result]) -> None:
    """Whoever hears of changes answers with nothing that is old; who does not, for as long as `ttl` at most."""
    default, bus, second = calm
    assert [result.outdated for result in (*calm, *split)] == [0] * 5
    assert (bus.behind, second.behind) == (0, 0)
    assert default.behind > 100
    assert default.oldest <= CacheSection().ttl
    for result in split:
        assert 0 < result.behind < default.behind
        assert result.oldest <= CacheSection().ttl


def test_what_a_split_costs(calm: list[Result], split: list[Result]) -> None:
    """A host that is cut off asks as with ordinary times, and as little as before soon after it is back."""
    for before, after in zip(calm[1:], split, strict=True):
        noon = int(SPLIT[0] // BIN)
        assert after.bins[:noon] == before.bins[:noon]
        assert after.far[noon] > 1.5 * before.far[noon]
        assert after.trusted == 0.0
        assert after.far[noon + 2] < 1.3 * before.far[noon + 2]


def test_a_cold_start_costs_less_with_the_second_level(split: list[Result]) -> None:
    """A host that knows nothing asks the database less when others' answers are shared."""
    bus, second = split
    assert 0 < second.cold < 0.8 * bus.cold


@pytest.mark.parametrize("rule", ["distrust", "fence"])
def test_each_rule_is_needed(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the distrust of a host that is cut off, or the fence, the same day finds outdated answers."""
    if rule == "distrust":
        monkeypatch.setattr(TableCache, "distrust", lambda _, __: None)
    else:
        monkeypatch.setattr(fleet_day, "VISIBLE", 5.0)
        monkeypatch.setattr(Fleet, "_say_forgotten", once_of_two(Fleet._say_forgotten))
    assert simulate(replace(BUS, split=SPLIT)).outdated > 0


@pytest.mark.parametrize("tombstone", [0.0, 10.0])
def test_tombstones(tombstone: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tombstone alone keeps what the database shows too late out of the second level, where no fence does."""
    monkeypatch.setattr(fleet_day, "VISIBLE", 5.0)
    monkeypatch.setattr(fleet_day, "TOMBSTONE", tombstone)
    monkeypatch.setattr(SecondLevel, "forget", once_of_two(SecondLevel.forget))
    assert (simulate(SECOND).outdated > 0) == (tombstone == 0.0)


def once_of_two(method: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Return a method that does what it is called for every other time that it is called with the same."""
    calls: Counter[str] = Counter()

    def called(self: Any, what: Any) -> None:
        calls[str(what)] += 1
        if calls[str(what)] % 2:
            method(self, what)

    return called


def test_rate_that_is_carried() -> None:
    """A rate is carried when every key arrives by its name, and no part needs more than a second for it."""
    carried = Carried(1_000, 90, 10**5, True, 0.1, 0.01, 0.01, 0.01)
    assert carried.carried(50)
    assert not carried.carried(100)
    assert not replace(carried, exact=False).carried(50)


def test_tables(calm: list[Result], split: list[Result]) -> None:
    """The tables name what was simulated."""
    text = "\n".join([*day_lines([*calm, *split]), *split_lines([*calm, *split])])
    assert f"| bus | {calm[1].selects:,} |".replace(",", " ") in text
    assert text.count("| outdated by the rules | 0 | 0 |") == 1
