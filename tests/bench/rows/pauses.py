"""Long waits while entries are fetched anew and expire: the tail of the latencies and the longest pause (row 3)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from bench.filled_daemon import STRETCH
from bench.programs import Figures
from bench.report import Line, about, micros, times
from bench.rounds import interleave, median_ratio
from bench.rows.memory import MAP, configuration
from bench.side import WARM_UP, ZIPF
from bench.source import Source
from bench.workbench import Workbench

ROWS = (3,)
ACTIVE_KEYS = 20_000
"""The keys that are asked for, so often that each is fetched anew before it expires.

The other entries expire unnoticed.
"""
SHORT_TTL = 60
LONGEST_PAUSE_US = 10_000


def measure(bench: Workbench, _: set[int]) -> Iterator[Line]:
    """Yield the lines of row 3."""
    config = configuration(bench.near, SHORT_TTL, bench.scale.entries)
    ages = bench.draws.fresh("ages of entries")
    for (
        source
    ) in bench.sources:  # one after the other: entries of one that waits for its turn would expire
        yield from about(source.name, _measure(bench, config, source, ages))


def _measure(bench: Workbench, config: str, source: Source, ages: int) -> Iterator[Line]:
    entries = bench.scale.entries
    with bench.daemon(config, source=source, entries=entries, spread=ages) as daemon:
        yield from _tail(bench, daemon.directory / "socketmap")
        yield _stretch(daemon.directory / STRETCH)


def _load(bench: Workbench, socket: Path, active: Path, seconds: float, seed: int) -> Figures:
    options = ["-c", "16", "-t", str(seconds), "-w", str(WARM_UP), "-z", f"{ZIPF:g}"]
    return bench.load(socket, active, MAP, options=[*options, "-s", str(seed)])


def _tail(bench: Workbench, served: Path) -> Iterator[Line]:
    active = bench.directory() / "active"
    with bench.keys.open(encoding="utf-8") as lines:
        active.write_text(
            "".join(line for line, _ in zip(lines, range(ACTIVE_KEYS), strict=False)),
            encoding="utf-8",
        )
    sockets = {"floor": bench.floor, "mailmapd": served}

    def tail(socket: Path, seed: int) -> float:
        return _load(bench, socket, active, bench.scale.seconds, seed)["p999_us"]

    rounds = interleave(
        bench.seeds("row 3"),
        {
            "floor": lambda seed: tail(bench.floor, seed),
            "mailmapd": lambda seed: tail(served, seed),
        },
    )
    ratio = median_ratio(rounds["mailmapd"], rounds["floor"])
    yield Line(
        3,
        "16 connections, refresh-ahead and expiry running: p99.9",
        micros(statistics.median(rounds["mailmapd"])),
        f"echo_floor {micros(statistics.median(rounds['floor']))}",
        times(ratio),
        "≤ 3",
        ratio <= 3,
    )
    pauses = {}
    seed = bench.draws.fresh("row 3, longest wait")
    # mailmapd first: while the floor is asked for a minute, its keys would expire
    for name, socket in reversed(sockets.items()):
        bench.load(socket, active, MAP, options=["-c", "16", "-n", str(ACTIVE_KEYS), "-o"])
        pauses[name] = _load(bench, socket, active, bench.scale.pause_seconds, seed)["max_us"]
    yield Line(
        3,
        f"the same: longest wait in {bench.scale.pause_seconds:g} s",
        micros(pauses["mailmapd"]),
        f"echo_floor {micros(pauses['floor'])}",
        times(pauses["mailmapd"] / pauses["floor"]),
        "≤ 10 ms",
        pauses["mailmapd"] <= LONGEST_PAUSE_US,
    )


def _stretch(file: Path) -> Line:
    """Return the longest time for which the daemon itself kept its clients waiting.

    The longest wait holds the machine's part, too.
    """
    longest = float(file.read_text(encoding="utf-8")) * 1e6
    return Line(
        3,
        "the same: longest stretch of the daemon's own processor time",
        micros(longest),
        target="≤ 10 ms",
        met=longest <= LONGEST_PAUSE_US,
    )
