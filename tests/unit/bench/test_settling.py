from __future__ import annotations

from collections.abc import Callable
from itertools import chain, repeat

from bench import settling
from bench.settling import PATIENCE, WINDOW


def chunks(*costs: float) -> tuple[float, ...]:
    """Return so many equal chunks of each cost as one window holds."""
    return tuple(chain.from_iterable(repeat(cost, WINDOW) for cost in costs))


def settle(ask: Callable[[], float]) -> list[float]:
    return settling.settle({"alone": ask})["alone"]


def test_a_warm_cache_needs_two_windows() -> None:
    """Where the cost stands still from the start, as many chunks are asked as it takes to see that."""
    assert settle(iter(repeat(5.0)).__next__) == list(chunks(5, 5))


def test_falling_costs_are_waited_for() -> None:
    """While lookups become cheaper, the cache is still filling."""
    costs = settle(chain(chunks(9, 8, 7), repeat(6.0)).__next__)
    assert costs[: 3 * WINDOW] == list(chunks(9, 8, 7))
    assert WINDOW < costs.count(6.0) < 2 * WINDOW


def test_noise_is_not_waited_for() -> None:
    """What chunks differ by when nothing changes does not keep the warm-up going."""
    noise = [5.0, 5.1, 4.9, 5.0, 5.0, 4.9, 5.1, 5.0]
    assert len(settle(chain(noise, repeat(0.0)).__next__)) == 2 * WINDOW


def test_all_are_asked_until_the_last_has_settled() -> None:
    """Nobody has learnt more than another when the measurement begins."""
    falling, warm = chain(chunks(9, 8), repeat(7.0)), repeat(5.0)
    costs = settling.settle({"falling": falling.__next__, "warm": warm.__next__})
    assert len(costs["warm"]) == len(costs["falling"]) > 2 * WINDOW


def test_patience_ends() -> None:
    """A cost that falls for ever ends the warm-up all the same."""
    costs = iter(range(10_000, 0, -300))
    assert len(settle(lambda: float(next(costs)))) == PATIENCE
