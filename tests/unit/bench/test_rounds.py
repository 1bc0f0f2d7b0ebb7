from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bench.report import BEGIN, END, Line, insert
from bench.rounds import interleave, median_ratio


def test_turns() -> None:
    """The contenders take turns, round by round, and none measures twice in a row."""
    order: list[str] = []

    def enter(name: str, _: int) -> None:
        order.append(name)

    interleave(range(3), {name: partial(enter, name) for name in "abc"})
    assert order == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    order.clear()
    interleave(range(2), {name: partial(enter, name) for name in "ab"})
    assert order == ["a", "b", "a", "b"]


def test_stake_of_a_round() -> None:
    """All contenders of one round get the same seed, and those of the next one another."""
    measures: dict[str, Callable[[int], int]] = {"a": partial(pow, 2), "b": int}
    assert interleave([17, 4], measures) == {"a": [2**17, 2**4], "b": [17, 4]}


def test_a_slow_moment_of_the_machine_cancels_out() -> None:
    """The ratio is the median of the rounds' ratios, so that a round in which everything was slow changes nothing."""
    assert median_ratio([10.0, 1.0, 12.0], [20.0, 2.0, 20.0]) == 0.5


def test_table_in_its_place() -> None:
    """A new table takes the place of the old one in a document, whose text stays."""
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert insert(document, "new\n") == f"before\n{BEGIN}\nnew\n\n{END}\nafter\n"
    assert insert("", "new\n") == "new\n"


def test_missed_target() -> None:
    """A line says whether its target was met; a figure without a target says nothing."""
    assert Line(1, "x", "1/s", met=False).markdown().endswith("| **no** |\n")
    assert Line(1, "a|b", "1/s").markdown() == "| 1 | a\\|b | 1/s |  |  |  |  |\n"
