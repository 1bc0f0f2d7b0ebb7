"""What an entry and a lookup cost as the cache and the number of clients grow (rows 9, 13)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from bench import mailboxes
from bench.accounting import resident_bytes
from bench.report import Line, count, per_second, times
from bench.rows.memory import MAP, ZIPF, configuration
from bench.workbench import Workbench

ROWS = (9, 13)
ROW_9_ENTRIES = 1_000_000
LONG = 86_400
FLATNESS = 0.8


def measure(bench: Workbench, wanted: set[int]) -> Iterator[Line]:
    """Yield the lines of rows 9 and 13."""
    with bench.daemon(configuration(bench.near, LONG, 1)) as empty:
        unfilled = resident_bytes(empty.process.pid)
    rates: dict[int, float] = {}
    for entries in bench.scale.growth if 13 in wanted else (bench.scale.entries,):
        with bench.daemon(configuration(bench.near, LONG, entries), entries=entries) as daemon:
            each = (resident_bytes(daemon.process.pid) - unfilled) / entries
            if 9 in wanted and entries == min(ROW_9_ENTRIES, max(bench.scale.growth)):
                yield Line(
                    9,
                    f"memory per entry, {count(entries)} mailboxes",
                    f"{each:.0f} bytes",
                    target="≤ 300 bytes",
                    met=each <= 300,
                )
            if 13 in wanted:
                served = daemon.directory / "socketmap"
                keys = mailboxes.write_keys(
                    bench.directory() / "keys", mailboxes.addresses(entries)
                )
                rates[entries] = _rate(bench, served, keys, 64)
                yield _growth_line(entries, each, rates)
                if entries == min(bench.scale.entries, max(bench.scale.growth)):
                    yield from _connections(bench, served, keys)


def _growth_line(entries: int, each: float, rates: dict[int, float]) -> Line:
    ratio = rates[entries] / rates[min(rates)]
    what = f"{count(entries)} entries, 64 connections"
    met = None if entries == min(rates) else ratio >= FLATNESS
    ours = f"{per_second(rates[entries])}, {each:.0f} bytes per entry"
    return Line(13, what, ours, f"with {count(min(rates))} entries", times(ratio), "≥ 0.80", met)


def _connections(bench: Workbench, served: Path, keys: Path) -> Iterator[Line]:
    for connections in bench.scale.connections:
        ours, floor = (
            _rate(bench, served, keys, connections),
            _rate(bench, bench.floor, keys, connections),
        )
        what = f"{count(connections)} connection{'s' if connections > 1 else ''}, {count(bench.scale.entries)} entries"
        yield Line(
            13,
            what,
            per_second(ours),
            f"echo_floor {per_second(floor)}",
            times(ours / floor),
            "reported",
        )


def _rate(bench: Workbench, socket: Path, keys: Path, connections: int) -> float:
    options = [
        "-c",
        str(connections),
        "-t",
        str(bench.scale.seconds),
        "-w",
        str(2000 + 2 * connections),
        "-z",
        str(ZIPF),
    ]
    return statistics.median(
        [
            bench.load(socket, keys, MAP, options=options)["lookups_per_s"]
            for _ in range(bench.scale.repetitions // 2 + 1)
        ]
    )
