from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bench import mailboxes
from bench.draws import Draws
from bench.scale import QUICK
from bench.side import Side, warm_up
from bench.workbench import Workbench
from support.process import ServerFailed


@pytest.fixture
def bench() -> Iterator[Workbench]:
    """A workbench on which nothing has been started yet."""
    with ExitStack() as stack:
        yield Workbench(replace(QUICK, seconds=0.02), stack, Draws.anew())


@pytest.fixture
def keys(bench: Workbench) -> Path:
    """A key file with ten keys."""
    return mailboxes.write_keys(bench.directory() / "keys", mailboxes.addresses(10))


def test_keys_that_are_not_found(bench: Workbench, keys: Path) -> None:
    """Where every key must be found, one that is not ends the measurement: it would have been another path's."""
    answers_nothing = bench.floor
    with pytest.raises(ServerFailed, match="10 keys were not in the cache"):
        Side(bench, answers_nothing, ("map",), keys=keys, all_found=True).ordered(1, 10, keys)
    cost = Side(bench, answers_nothing, ("map",), keys=keys).ordered(1, 10, keys)
    assert cost.figures["notfound"] == 10


def test_a_seed_is_what_is_drawn_with(bench: Workbench, keys: Path) -> None:
    """A measurement draws with the seed of its round, and warm-up with one of its own each time."""
    side = Side(bench, bench.floor, ("map",), keys=keys)
    assert side.drawn(2, 12345).figures["seed"] == 12345
    costs = warm_up(bench, {"one": side, "other": side}, 2, "test")
    seeds = [cost.figures["seed"] for cost in costs["one"]]
    assert len(set(seeds)) == len(seeds)
    assert [cost.figures["seed"] for cost in costs["other"]] == seeds
