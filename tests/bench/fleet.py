"""Simulate a fleet's day: `scripts/simulate [--quick] [--hosts N] [--recipients N] [--seed N]`; print Markdown."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from bench.fleet_bus import Carried, Kept, measure_memory, measure_rates
from bench.fleet_day import BIN, Result, scenarios, simulate
from bench.mail import DAY
from bench.report import count
from support.valkey import Kind

FULL = (50, 20_000)
QUICK = (5, 2_000)
SPLIT = 600.0
BACK = 1.1
"""A fleet is as before when it asks at most this often what it would have asked without the split."""
KINDS: tuple[Kind, ...] = ("valkey", "redis")


def main() -> None:
    """Simulate and measure; print what came of it."""
    parser = argparse.ArgumentParser(
        prog="scripts/simulate", description="Simulate a fleet's day of mail; print Markdown."
    )
    parser.add_argument("--quick", action="store_true", help="a small fleet, less than a minute")
    parser.add_argument("--hosts", type=int, help=f"hosts of the fleet (default: {FULL[0]})")
    parser.add_argument(
        "--recipients", type=int, help=f"recipients of each host on the day (default: {FULL[1]})"
    )
    parser.add_argument(
        "--split", type=float, default=SPLIT, help="seconds for which half of them are cut off"
    )
    parser.add_argument("--seed", type=int, default=1, help="what is drawn (default: 1)")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    hosts, recipients = options.hosts or size[0], options.recipients or size[1]
    began = time.monotonic()
    days = scenarios(options.seed, hosts, recipients, options.split)
    # Each in a process of its own; millions of entries are no garbage.
    alone = ProcessPoolExecutor(
        mp_context=get_context("spawn"), initializer=gc.disable, max_tasks_per_child=1
    )
    with alone as processes:
        results = list(processes.map(simulate, days))
    print(
        f"{hosts} hosts, {count(hosts * recipients)} recipients, "
        f"{count(days[0].mailboxes)} mailboxes; --seed {options.seed}\n"
    )
    for line in [*day_lines(results), *split_lines(results), *bus_lines(results, hosts)]:
        print(line)
    print(f"({time.monotonic() - began:.0f} s)", file=sys.stderr)


def day_lines(results: Sequence[Result]) -> Iterator[str]:
    """Yield the table of SELECTs on a day."""
    yield "| a day | SELECTs | a second | in the busiest ten minutes | behind the database | outdated by the rules |"
    yield "|---|---:|---:|---:|---:|---:|"
    for result in results[:3]:
        cells = [
            result.scenario.name,
            count(result.selects),
            f"{result.selects / DAY:.1f}",
            f"{max(result.bins) / BIN:.1f} a second",
            f"{count(result.behind)}, for {result.oldest:.0f} s at most" if result.behind else "0",
            count(result.outdated),
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""


def split_lines(results: Sequence[Result]) -> Iterator[str]:
    """Yield the table of a split, and of a host that starts cold."""
    _, bus, second, *disturbed = results
    yield "| half of the hosts cut off at noon | bus | with the second level |"
    yield "|---|---:|---:|"
    pairs = list(zip((bus, second), disturbed, strict=True))
    rows = {
        "SELECTs a second, in the ten minutes before": [_rate(carried, -1) for _, carried in pairs],
        "in the ten minutes from the split on": [_rate(carried, 0) for _, carried in pairs],
        "in the ten minutes after them": [_rate(carried, 1) for _, carried in pairs],
        "SELECTs more than without, until 18:00": [_more(*pair) for pair in pairs],
        "as many as without again after": [_back(*pair) for pair in pairs],
        "new answers are kept for a day again after": [
            "never" if carried.trusted is None else f"{carried.trusted:.0f} s"
            for _, carried in pairs
        ],
        "answers behind the database": [
            f"{carried.behind}, for {carried.oldest:.0f} s at most" for _, carried in pairs
        ],
        "outdated by the rules": [str(carried.outdated) for _, carried in pairs],
        "SELECTs of a host that starts cold, in its first hour": [
            count(carried.cold) for _, carried in pairs
        ],
    }
    for name, cells in rows.items():
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def _noon(result: Result) -> int:
    """Return the number of the ten minutes in which the fleet is split."""
    assert result.scenario.split is not None
    return int(result.scenario.split[0] // BIN)


def _rate(result: Result, later: int) -> str:
    return f"{result.bins[_noon(result) + later] / BIN:.1f}"


def _extra(calm: Result, split: Result) -> list[int]:
    """Return how many SELECTs more there were in each ten minutes from the split until a host starts cold."""
    assert split.scenario.cold is not None
    places = range(_noon(split), int(split.scenario.cold // BIN))
    return [split.bins[place] - calm.bins[place] for place in places]


def _more(calm: Result, split: Result) -> str:
    return count(sum(_extra(calm, split)))


def _back(calm: Result, split: Result) -> str:
    """Return how long after the split the fleet asks as often as it would have without."""
    noon = _noon(split)
    assert split.scenario.split is not None
    lasted = -(-int(split.scenario.split[1] - split.scenario.split[0]) // BIN)
    for place in range(lasted, len(_extra(calm, split))):
        if split.bins[noon + place] <= BACK * calm.bins[noon + place]:
            return f"{(place - lasted) * BIN // 60} to {(place - lasted + 1) * BIN // 60} min"
    return "more than 5 h"


def bus_lines(results: Sequence[Result], hosts: int) -> Iterator[str]:
    """Yield what the bus carries, and the memory that it needs."""
    yield f"| changes a second, in 8 tables each | server | messages | each key by its name | publisher | each host | server, {hosts} hosts |"
    yield "|---:|---|---:|---|---:|---:|---:|"
    for kind in KINDS:
        for carried in measure_rates(kind):
            yield _carried_line(kind, carried, hosts)
    yield ""
    bus, second = results[1], results[2]
    yield "| memory of the server | | each | in all |"
    yield "|---|---:|---:|---:|"
    for kind in KINDS:
        kept = measure_memory(kind, bus.messages, second.sample)
        yield from _memory_lines(kind, kept, second.kept)
    yield ""


def _carried_line(kind: Kind, carried: Carried, hosts: int) -> str:
    shares = (carried.publisher, carried.reader, carried.load_of_server(hosts))
    cells = [
        count(carried.rate),
        kind,
        count(carried.messages),
        "yes" if carried.exact else "no, some tables as a whole",
        *(f"{share:.1%} of a core" for share in shares),
    ]
    return f"| {' | '.join(cells)} |"


def _memory_lines(kind: Kind, kept: Kept, answers: int) -> Iterator[str]:
    yield (
        f"| stream, {kind} | {count(kept.messages)} messages | {kept.stream / kept.messages:.0f} bytes "
        f"| {kept.stream / 2**20:.1f} MiB |"
    )
    each = kept.second_level / max(kept.answers, 1)
    yield (
        f"| second level, {kind} | {count(answers)} answers | {each:.0f} bytes "
        f"| {each * answers / 2**20:.1f} MiB |"
    )


if __name__ == "__main__":
    main()
