"""Lookups while changes pour in: latencies with 10 000 invalidations a second beside those of quiet (row 14)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from bench import mailboxes
from bench.filled_daemon import FORGETTING, FORGOTTEN, INVALIDATIONS
from bench.report import Line, count, micros, times
from bench.rounds import interleave, median_ratio
from bench.rows.memory import LONG, MAP, configuration
from bench.side import WARM_UP, ZIPF
from bench.workbench import Workbench

ROWS = (14,)
ACTIVE_KEYS = 20_000
"""The keys that are asked for; the changes are of others, so that every lookup is answered from memory."""

TARGET = 2.0


def measure(bench: Workbench, _: set[int]) -> Iterator[Line]:
    """Yield the line of row 14."""
    entries = bench.scale.entries
    config = configuration(bench.near, LONG, entries)
    with bench.daemon(config, entries=entries, forget=ACTIVE_KEYS) as daemon:
        keys = bench.draws.shuffled("row 14, keys", mailboxes.addresses(ACTIVE_KEYS))
        active = mailboxes.write_keys(bench.directory() / "active", keys)
        rounds = interleave(
            bench.seeds("row 14"),
            {
                "quiet": lambda seed: _tail(bench, daemon.directory, active, seed, busy=False),
                "busy": lambda seed: _tail(bench, daemon.directory, active, seed, busy=True),
            },
        )
    forgotten = int((daemon.directory / FORGOTTEN).read_text(encoding="utf-8"))
    ratio = median_ratio(rounds["busy"], rounds["quiet"])
    yield Line(
        14,
        f"16 connections, {count(entries)} entries, {count(INVALIDATIONS)} invalidations a second "
        f"({count(forgotten)} entries forgotten): p99",
        micros(statistics.median(rounds["busy"])),
        f"quiet {micros(statistics.median(rounds['quiet']))}",
        times(ratio),
        f"≤ {TARGET:g}",
        ratio <= TARGET,
    )


def _tail(bench: Workbench, folder: Path, active: Path, seed: int, *, busy: bool) -> float:
    mark = folder / FORGETTING
    if busy:
        mark.touch()
    options = ["-c", "16", "-t", str(bench.scale.seconds), "-w", str(WARM_UP), "-z", f"{ZIPF:g}"]
    try:
        figures = bench.load(folder / "socketmap", active, MAP, options=[*options, "-s", str(seed)])
    finally:
        mark.unlink(missing_ok=True)
    return figures["p99_us"]
