"""Answers from memory: rates, latencies and processor time of the daemon beside a server that does
nothing (rows 1, 2, 12).

Which of its memories answers decides what a lookup costs, so each is measured: keys drawn anew, as a host has them;
one sequence replayed, where whole replies are remembered; each key once, where none is and every answer is made of
entries.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import mailboxes
from bench.report import Line, count, micros, per_second, times
from bench.rounds import Rounds, interleave, median_ratio
from bench.side import ZIPF, Cost, Side, processor_time, warm_up
from bench.source import OURS
from bench.workbench import Workbench, database_section

ROWS = (1, 2, 12)
MAP = "virtual_mailbox_maps"
LONG = 86_400
CONNECTIONS = 64
TARGET = 0.50
FLOOR = "echo_floor"
DRAWN, REPLAYED = "keys drawn anew", "one sequence replayed"


def configuration(socket: Path, ttl: int, entries: int) -> str:
    """Return a configuration with one table whose query any address answers, so that it needs no
    rows, and metrics on.
    """
    return f"""\
[listen]
socketmap = ["unix:{{directory}}/socketmap"]
http = "127.0.0.1:{{port}}"
{database_section(socket)}
[table.mailbox]
database = "mail"
query = "SELECT CONCAT('%d', '/', '%u', '/')"
[map.{MAP}]
tables = ["mailbox"]
search = "address"
recipient_delimiter = "+"
[cache]
ttl = "{ttl}s"
max_entries = {entries + 1000}
"""


def measure(bench: Workbench, wanted: set[int]) -> Iterator[Line]:
    """Yield the lines of rows 1, 2 and 12."""
    entries = bench.scale.entries
    config = configuration(bench.near, LONG, entries)
    with ExitStack() as stack:
        sides = {}
        for source in bench.sources:
            daemon = stack.enter_context(bench.daemon(config, source=source, entries=entries))
            sides[source.name] = Side(
                bench, daemon.directory / "socketmap", (MAP,), daemon.process, all_found=True
            )
        if 12 in wanted:
            yield once(bench, sides, "each key once: answered from entries")
        yield from warm(bench, sides, "row 1")
        floor = Side(bench, bench.floor, (MAP,))
        contenders = {FLOOR: floor, **sides}
        what = f"cached lookups, {CONNECTIONS} connections, {count(entries)} entries, zipf {ZIPF:g}"
        if wanted & {1, 12}:
            seeds = bench.seeds("row 1")
            replayed = [bench.draws.fresh("row 1, replayed")] * len(seeds)
            yield from _throughput(contenders, f"{what}, {DRAWN}", seeds, wanted, TARGET)
            for side in sides.values():
                side.drawn(CONNECTIONS, replayed[0])
            yield from _throughput(contenders, f"the same, {REPLAYED}", replayed, wanted, None)
        if 2 in wanted:
            yield from _round_trip(bench, contenders)


def once(bench: Workbench, sides: Mapping[str, Side], what: str) -> Line:
    """Ask for each key once, another part of them in each round; nothing has been asked before, so
    that no reply is remembered.
    """
    parts = bench.scale.repetitions + 1
    keys = bench.keys.read_text(encoding="utf-8").splitlines()
    size = len(keys) // parts
    files = [
        mailboxes.write_keys(bench.directory() / "part", keys[size * part : size * (part + 1)])
        for part in range(parts)
    ]
    for side in sides.values():  # what a new reply displaces belongs to what it costs
        side.ordered(CONNECTIONS, size, files[0])
    rounds = interleave(
        files[1:],
        {name: partial(side.ordered, CONNECTIONS, size) for name, side in sides.items()},
    )
    return processor_time(rounds, what)


def warm(bench: Workbench, sides: Mapping[str, Side], what: str) -> Iterator[Line]:
    """Ask until the remembered replies are those that stay remembered; say how long that took."""
    for name, costs in warm_up(bench, sides, CONNECTIONS, what).items():
        yield Line(
            12,
            f"warm-up for {what}: {name}'s processor time per lookup at first and at last",
            f"{micros(costs[0].micros)}, {micros(costs[-1].micros)}",
            f"{count(sum(cost.lookups for cost in costs))} lookups",
            target="reported",
        )


def _throughput(
    contenders: dict[str, Side],
    what: str,
    seeds: Sequence[int],
    wanted: set[int],
    target: float | None,
) -> Iterator[Line]:
    rounds = interleave(
        seeds, {name: partial(side.drawn, CONNECTIONS) for name, side in contenders.items()}
    )
    if 1 in wanted:
        for peer in contenders:
            if peer != OURS:
                yield _rates(rounds, what, peer, target if peer == FLOOR else None)
    if 12 in wanted:
        del rounds[FLOOR]
        yield processor_time(rounds, what.rpartition(", ")[2])


def _rates(rounds: Rounds[Cost], what: str, peer: str, target: float | None) -> Line:
    ours, theirs = (
        [measured.figures["lookups_per_s"] for measured in rounds[name]] for name in (OURS, peer)
    )
    ratio = median_ratio(ours, theirs)
    return Line(
        1,
        what,
        per_second(statistics.median(ours)),
        f"{peer} {per_second(statistics.median(theirs))}",
        times(ratio),
        "reported" if target is None else f"≥ {target:.2f}",
        None if target is None else ratio >= target,
    )


def _round_trip(bench: Workbench, contenders: dict[str, Side]) -> Iterator[Line]:
    rounds = interleave(
        bench.seeds("row 2"), {name: partial(side.drawn, 1) for name, side in contenders.items()}
    )
    for peer in contenders:
        if peer == OURS:
            continue
        ours, theirs = (
            [measured.figures["p50_us"] for measured in rounds[name]] for name in (OURS, peer)
        )
        ratio = median_ratio(ours, theirs)
        yield Line(
            2,
            f"1 connection, {DRAWN}: median latency",
            micros(statistics.median(ours)),
            f"{peer} {micros(statistics.median(theirs))}",
            times(ratio),
            "≤ 1.10" if peer == FLOOR else "reported",
            ratio <= 1.10 if peer == FLOOR else None,
        )
