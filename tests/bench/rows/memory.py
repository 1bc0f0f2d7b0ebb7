"""Answers from memory: rates, latencies, pauses and processor time of the daemon beside a server that does nothing (rows 1, 2, 3, 12)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.accounting import ProcessorTime
from bench.filled_daemon import STRETCH
from bench.programs import Figures
from bench.report import Line, count, micros, per_second, times
from bench.rounds import interleave, median_ratio
from bench.workbench import Workbench, database_section

ROWS = (1, 2, 3, 12)
MAP = "virtual_mailbox_maps"
ZIPF = 1.0
WARM_UP = 2_000
ACTIVE_KEYS = 20_000
"""The keys that row 3 asks for, so often that each is fetched anew before it expires.

The other entries expire unnoticed.
"""
SHORT_TTL = 60
LONGEST_PAUSE_US = 10_000


def configuration(socket: Path, ttl: int, entries: int) -> str:
    """Return a configuration with one table whose query any address answers, so that it needs no rows, and metrics on."""
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
    """Yield the lines of rows 1, 2, 3 and 12."""
    with bench.daemon(
        configuration(bench.near, 86_400, bench.scale.entries), entries=bench.scale.entries
    ) as daemon:
        served = daemon.directory / "socketmap"
        _load(bench, served, "64", bench.scale.seconds)
        if wanted & {1, 12}:
            yield from _throughput(bench, served, daemon.process.pid)
        if 2 in wanted:
            yield _round_trip(bench, served)
    if 3 in wanted:
        config = configuration(bench.near, SHORT_TTL, bench.scale.entries)
        with bench.daemon(config, entries=bench.scale.entries, spread=True) as daemon:
            yield from _tail(bench, daemon.directory / "socketmap")
            yield _stretch(daemon.directory / STRETCH)


def _load(
    bench: Workbench, socket: Path, connections: str, seconds: float, keys: Path | None = None
) -> Figures:
    options = ["-c", connections, "-t", str(seconds), "-w", str(WARM_UP), "-z", str(ZIPF)]
    return bench.load(socket, keys or bench.keys, MAP, options=options)


def _throughput(bench: Workbench, served: Path, pid: int) -> Iterator[Line]:
    used: list[ProcessorTime] = []

    def ours() -> Figures:
        before = ProcessorTime.of(pid)
        figures = _load(bench, served, "64", bench.scale.seconds)
        used.append(ProcessorTime.of(pid).since(before))
        return figures

    def floor() -> Figures:
        return _load(bench, bench.floor, "64", bench.scale.seconds)

    rounds = interleave(bench.scale.repetitions, {"floor": floor, "mailmapd": ours})
    ours_rates, floor_rates = (
        [one["lookups_per_s"] for one in rounds[name]] for name in ("mailmapd", "floor")
    )
    ratio = median_ratio(ours_rates, floor_rates)
    yield Line(
        1,
        f"cached lookups, 64 connections, {count(bench.scale.entries)} entries, zipf {ZIPF:g}",
        per_second(statistics.median(ours_rates)),
        f"echo_floor {per_second(statistics.median(floor_rates))}",
        times(ratio),
        "≥ 0.55",
        ratio >= 0.55,
    )
    lookups = sum(one["lookups"] + WARM_UP for one in rounds["mailmapd"])
    user, system = (
        sum(one.user for one in used) / lookups * 1e6,
        sum(one.system for one in used) / lookups * 1e6,
    )
    yield Line(
        12,
        "processor time per cached lookup",
        f"{user + system:.1f} µs ({user:.1f} user + {system:.1f} system)",
        target="reported",
    )


def _round_trip(bench: Workbench, served: Path) -> Line:
    rounds = interleave(
        bench.scale.repetitions,
        {
            name: partial(_load, bench, socket, "1", bench.scale.seconds)
            for name, socket in _sockets(bench, served)
        },
    )
    ours, floor = ([one["p50_us"] for one in rounds[name]] for name in ("mailmapd", "floor"))
    ratio = median_ratio(ours, floor)
    return Line(
        2,
        "the same, 1 connection: median latency",
        micros(statistics.median(ours)),
        f"echo_floor {micros(statistics.median(floor))}",
        times(ratio),
        "≤ 1.10",
        ratio <= 1.10,
    )


def _tail(bench: Workbench, served: Path) -> Iterator[Line]:
    active = bench.directory() / "active"
    with bench.keys.open(encoding="utf-8") as lines:
        active.write_text(
            "".join(line for line, _ in zip(lines, range(ACTIVE_KEYS), strict=False)),
            encoding="utf-8",
        )
    rounds = interleave(
        bench.scale.repetitions,
        {
            name: partial(_load, bench, socket, "16", bench.scale.seconds, active)
            for name, socket in _sockets(bench, served)
        },
    )
    ours, floor = ([one["p999_us"] for one in rounds[name]] for name in ("mailmapd", "floor"))
    ratio = median_ratio(ours, floor)
    yield Line(
        3,
        "16 connections, refresh-ahead and expiry running: p99.9",
        micros(statistics.median(ours)),
        f"echo_floor {micros(statistics.median(floor))}",
        times(ratio),
        "≤ 3",
        ratio <= 3,
    )
    pauses = {}
    for name, socket in reversed(
        _sockets(bench, served)
    ):  # mailmapd first: while the floor is asked for a minute, its keys would expire
        bench.load(socket, active, MAP, options=["-c", "16", "-n", str(ACTIVE_KEYS), "-o"])
        pauses[name] = _load(bench, socket, "16", bench.scale.pause_seconds, active)["max_us"]
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


def _sockets(bench: Workbench, served: Path) -> list[tuple[str, Path]]:
    return [("floor", bench.floor), ("mailmapd", served)]
