"""What an entry and a lookup cost as the cache and the number of clients grow (rows 9, 13)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from functools import partial

from bench.accounting import resident_bytes
from bench.report import Line, about, count, per_second, times
from bench.rounds import Rounds, interleave, median_ratio
from bench.rows.memory import DRAWN, LONG, MAP, configuration
from bench.side import Side, warm_up
from bench.source import OURS, Source
from bench.workbench import Workbench

ROWS = (9, 13)
ROW_9_ENTRIES = 1_000_000
FLATNESS = 0.8


def measure(bench: Workbench, wanted: set[int]) -> Iterator[Line]:
    """Yield the lines of rows 9 and 13."""
    unfilled = {source.name: _unfilled(bench, source) for source in bench.sources}
    shares: dict[int, float] = {}
    for entries in bench.scale.growth if 13 in wanted else (bench.scale.entries,):
        with bench.daemon(configuration(bench.near, LONG, entries), entries=entries) as daemon:
            each = (resident_bytes(daemon.process.pid) - unfilled[OURS]) / entries
            if 9 in wanted and entries == min(ROW_9_ENTRIES, max(bench.scale.growth)):
                yield _memory_line(entries, each)
                for source in bench.sources[1:]:
                    yield from about(source.name, _memory(bench, source, unfilled, entries))
            if 13 in wanted:
                keys = bench.write_keys(entries)
                sides = {
                    "mailmapd": Side(
                        bench, daemon.directory / "socketmap", (MAP,), daemon.process, keys=keys
                    ),
                    "floor": Side(bench, bench.floor, (MAP,), keys=keys),
                }
                warm_up(bench, {OURS: sides[OURS]}, 64, f"row 13, {entries}")
                rounds = _rounds(bench, sides, 64, f"{entries} entries")
                shares[entries] = median_ratio(rounds["mailmapd"], rounds["floor"])
                yield _growth_line(entries, each, rounds, shares)
                if entries == min(bench.scale.entries, max(bench.scale.growth)):
                    yield from _connections(bench, sides)


def _unfilled(bench: Workbench, source: Source) -> int:
    """Return the memory of a daemon that knows nothing."""
    with bench.daemon(configuration(bench.near, LONG, 1), source=source) as empty:
        return resident_bytes(empty.process.pid)


def _memory(
    bench: Workbench, source: Source, unfilled: Mapping[str, int], entries: int
) -> Iterator[Line]:
    config = configuration(bench.near, LONG, entries)
    with bench.daemon(config, source=source, entries=entries) as daemon:
        each = (resident_bytes(daemon.process.pid) - unfilled[source.name]) / entries
    yield _memory_line(entries, each)


def _memory_line(entries: int, each: float) -> Line:
    return Line(
        9,
        f"memory per entry, {count(entries)} mailboxes",
        f"{each:.0f} bytes",
        target="≤ 300 bytes",
        met=each <= 300,
    )


def _growth_line(
    entries: int, each: float, rounds: Rounds[float], shares: dict[int, float]
) -> Line:
    """Return the line of one size; sizes are not measured at the same time, so that each is
    compared by its share of the floor.
    """
    smallest = min(shares)
    ratio = shares[entries] / shares[smallest]
    return Line(
        13,
        f"{count(entries)} entries, 64 connections, {DRAWN}",
        f"{per_second(statistics.median(rounds['mailmapd']))}, {each:.0f} bytes per entry",
        f"{shares[entries]:.2f} of echo_floor; with {count(smallest)} entries {shares[smallest]:.2f}",
        times(ratio),
        f"≥ {FLATNESS:.2f}",
        None if entries == smallest else ratio >= FLATNESS,
    )


def _connections(bench: Workbench, sides: dict[str, Side]) -> Iterator[Line]:
    for connections in bench.scale.connections:
        rounds = _rounds(bench, sides, connections, f"{connections} connections")
        yield Line(
            13,
            f"{count(connections)} connection{'s' if connections > 1 else ''}, "
            f"{count(bench.scale.entries)} entries, {DRAWN}",
            per_second(statistics.median(rounds["mailmapd"])),
            f"echo_floor {per_second(statistics.median(rounds['floor']))}",
            times(median_ratio(rounds["mailmapd"], rounds["floor"])),
            "reported",
        )


def _rounds(bench: Workbench, sides: dict[str, Side], connections: int, what: str) -> Rounds[float]:
    seeds = bench.seeds(f"row 13, {what}")[: bench.scale.repetitions // 2 + 1]
    return interleave(
        seeds, {name: partial(_rate, side, connections) for name, side in sides.items()}
    )


def _rate(side: Side, connections: int, seed: int) -> float:
    return side.drawn(connections, seed).figures["lookups_per_s"]
