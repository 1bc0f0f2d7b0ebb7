"""One side of a comparison in memory: a server that the load generator asks, and what it used for that."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.accounting import ProcessorTime, processor_seconds
from bench.programs import Figures
from bench.report import Line, micros, times
from bench.rounds import Rounds, median_ratio
from bench.settling import PATIENCE, settle
from bench.source import OURS
from bench.workbench import Workbench
from support.process import ServerFailed, ServerProcess

ZIPF = 1.0
WARM_UP = 2_000
"""Lookups before the clock starts, on top of whatever warmed the cache: the other side had the processor before."""


@dataclass(frozen=True)
class Cost:
    """The cost that was measured, and the server's processor time, which is not taken of a server that is not ours.

    `used` says how the time is divided, coarsely; `seconds` is the whole of it.
    """

    figures: Figures
    used: ProcessorTime
    seconds: float
    lookups: float

    @property
    def micros(self) -> float:
        """Microseconds of processor time per lookup."""
        return self.seconds / self.lookups * 1e6

    @property
    def micros_in_kernel(self) -> float:
        """Those of them that the kernel took."""
        return self.micros * self.used.system / self.used.total if self.used.total else 0.0


class Side:
    """A server on a socket, asked for `names` in turn: maps, or what stands before the keys of a dict.

    With `all_found` it must have a value for every key, as a daemon has that was filled with them.
    """

    def __init__(
        self,
        bench: Workbench,
        socket: Path,
        names: Sequence[str],
        process: ServerProcess | None = None,
        *,
        protocol: str = "socketmap",
        keys: Path | None = None,
        all_found: bool = False,
    ) -> None:
        self._bench = bench
        self._socket = socket
        self._names = names
        self._process = process
        self._protocol = protocol
        self._keys = keys or bench.keys
        self._all_found = all_found

    def drawn(self, connections: int, seed: int) -> Cost:
        """Ask for keys that the seed draws, in proportion to 1 / rank, for as long as a measurement takes."""
        seconds, warm_up = str(self._bench.scale.seconds), WARM_UP + 2 * connections
        options = ["-t", seconds, "-w", str(warm_up), "-z", f"{ZIPF:g}", "-s", str(seed)]
        return self._ask(connections, self._keys, warm_up, options)

    def ordered(self, connections: int, size: int, keys: Path) -> Cost:
        """Ask for each of so many keys once."""
        return self._ask(connections, keys, 0, ["-o", "-n", str(size)])

    def _ask(self, connections: int, keys: Path, warm_up: int, options: Sequence[str]) -> Cost:
        used, seconds = self._used()
        figures = self._bench.load(
            self._socket,
            keys,
            *self._names,
            options=["-c", str(connections), *options],
            protocol=self._protocol,
        )
        used_since, seconds_since = self._used()
        if figures["errors"]:
            raise ServerFailed(f"{figures['errors']:.0f} lookups ended in an error")
        if self._all_found and figures["notfound"]:
            raise ServerFailed(f"{figures['notfound']:.0f} keys were not in the cache")
        return Cost(
            figures, used_since.since(used), seconds_since - seconds, figures["lookups"] + warm_up
        )

    def _used(self) -> tuple[ProcessorTime, float]:
        if self._process is None:
            return ProcessorTime(0, 0), 0.0
        return ProcessorTime.of(self._process.pid), processor_seconds(self._process.pid)


def warm_up(
    bench: Workbench, sides: Mapping[str, Side], connections: int, purpose: str
) -> dict[str, list[Cost]]:
    """Ask all sides for the same keys until the remembered replies are those that stay remembered; return all costs."""
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    seeds = [bench.draws.fresh(f"{purpose}, warm-up") for _ in range(PATIENCE)]

    def ask(name: str) -> float:
        costs[name].append(sides[name].drawn(connections, seeds[len(costs[name])]))
        return costs[name][-1].micros

    settle({name: partial(ask, name) for name in sides})
    return costs


def processor_time(rounds: Rounds[Cost], what: str) -> Line:
    """Return the line of row 12 about these rounds, beside the parent's if it was measured."""
    peer = next((name for name in rounds if name != OURS), None)
    ours = rounds[OURS]
    text = _parts(ours)
    if peer is None:
        return Line(12, f"processor time per cached lookup, {what}", text, target="reported")
    ratio = median_ratio([cost.micros for cost in ours], [cost.micros for cost in rounds[peer]])
    return Line(
        12,
        f"processor time per cached lookup, {what}",
        text,
        f"{peer} {_parts(rounds[peer])}",
        times(ratio),
        "reported",
    )


def _parts(costs: Sequence[Cost]) -> str:
    total = statistics.median([cost.micros for cost in costs])
    system = statistics.median([cost.micros_in_kernel for cost in costs])
    return f"{micros(total)} ({total - system:.1f} user + {system:.1f} system)"
