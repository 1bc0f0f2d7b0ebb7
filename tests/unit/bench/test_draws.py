from __future__ import annotations

from bench.draws import Draws


def test_a_seed_is_never_handed_out_twice() -> None:
    """No two measurements of a run draw the same keys."""
    draws = Draws(1)
    seeds = [draws.fresh(purpose) for purpose in ("row 1", "row 2", "warm-up") for _ in range(200)]
    assert len(set(seeds)) == len(seeds)


def test_two_runs_draw_differently() -> None:
    """A run that is given no seed draws what no run before it has drawn."""
    assert Draws.anew().fresh("row 1") != Draws.anew().fresh("row 1")


def test_a_run_can_be_repeated() -> None:
    """The seed of a run gives its measurements the same keys again."""
    draws = Draws.anew()
    drawn = [draws.fresh("row 1"), draws.fresh("row 1")]
    again = Draws(draws.seed)
    assert [again.fresh("row 1"), again.fresh("row 1")] == drawn


def test_a_row_draws_the_same_whatever_else_is_measured() -> None:
    """What a row draws does not depend on the rows before it, nor on how long they warmed up."""
    alone, after_others = Draws(7), Draws(7)
    for _ in range(3):
        after_others.fresh("warm-up")
    assert alone.fresh("row 2") == after_others.fresh("row 2")


def test_order_of_keys() -> None:
    """Keys are shuffled, none is lost, and the run's seed gives the same order again."""
    mixed = Draws(3).shuffled("keys", range(1000))
    assert mixed != list(range(1000))
    assert sorted(mixed) == list(range(1000))
    assert Draws(3).shuffled("keys", range(1000)) == mixed
