from __future__ import annotations

from itertools import chain, repeat

from bench.settling import PATIENCE, WINDOW, settle


def chunks(*costs: float) -> tuple[float, ...]:
    """Return so many equal chunks of each cost as one window holds."""
    return tuple(chain.from_iterable(repeat(cost, WINDOW) for cost in costs))


def test_a_warm_cache_needs_two_windows() -> None:
    """Where the cost stands still from the start, as many chunks are asked as it takes to see that."""
    assert settle(iter(repeat(5.0)).__next__) == list(chunks(5, 5))


def test_falling_costs_are_waited_for() -> None:
    """While lookups become cheaper, the cache is still filling."""
    assert settle(chain(chunks(9, 8, 7), repeat(6.0)).__next__) == [*chunks(9, 8, 7), *[6.0] * 5]


def test_noise_is_not_waited_for() -> None:
    """What chunks differ by when nothing changes does not keep the warm-up going."""
    assert len(settle(chain([5.0, 5.1, 4.9, 5.0, 4.9, 5.1], repeat(0.0)).__next__)) == 2 * WINDOW


def test_patience_ends() -> None:
    """A cost that falls for ever ends the warm-up all the same."""
    costs = iter(range(1000, 0, -50))
    assert len(settle(lambda: float(next(costs)))) == PATIENCE
