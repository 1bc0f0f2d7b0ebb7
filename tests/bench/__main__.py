"""Measure the table: `scripts/bench [--quick] [--rows 1,2,5] [--output FILE]`."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

from bench import pictures
from bench.draws import Draws
from bench.machine import this_machine
from bench.report import Line, failed, insert, render
from bench.scale import FULL, QUICK
from bench.workbench import Workbench

MODULES = (
    "memory",
    "paths",
    "pauses",
    "invalidations",
    "changes",
    "growth",
    "postmap",
    "recipients",
    "day",
    "start",
    "logins",
    "bus",
)
Measure = Callable[[Workbench, set[int]], Iterator[Line]]


def rows(text: str) -> set[int]:
    """Read a list of row numbers."""
    return {int(number) for number in text.split(",")}


def main() -> None:
    """Measure and print the table; what cannot be measured here is a line that says why."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure mailmapd beside its peers; print a Markdown table.",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sizes, short times: for the ratios, in less than two minutes",
    )
    parser.add_argument(
        "--rows", type=rows, default=set(range(1, 17)), help="only these rows, such as 1,2,5"
    )
    parser.add_argument(
        "--seed",
        type=int,
        help="draw what an earlier run has drawn: its seed stands above its table (default: a new one)",
    )
    parser.add_argument(
        "--parent",
        metavar="COMMIT",
        help="measure this commit, too: in the same rounds of rows 1, 2, 7, 11 and 12, after ours in rows 3, 9 and 10",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="write the table to this file, too; between its marks, if it has them",
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FILE",
        help="measure nothing: draw the table that is in this page",
    )
    options = parser.parse_args()
    if options.pictures is not None:
        _draw(options.pictures)
        return
    _allow_many_files()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit("told to stop")
    )  # in order: every server ends with the run
    machine, started, lines = this_machine(), time.monotonic(), []
    scale = QUICK if options.quick else FULL
    with ExitStack() as stack:
        draws = Draws.anew() if options.seed is None else Draws(options.seed)
        bench = Workbench(scale, stack, draws, options.parent)
        for name in MODULES:
            lines += list(_measure(name, bench, options.rows))
        remarks = _remarks(bench, time.monotonic() - started)
    table = render(lines, machine, remarks)
    print(table)
    if options.output is not None:
        document = options.output.read_text(encoding="utf-8") if options.output.exists() else ""
        options.output.write_text(insert(document, table), encoding="utf-8")
        _draw(options.output)


def _draw(page: Path) -> None:
    """Draw the table of a page into the folder beside it that the page takes its pictures from."""
    pictures.write(page.parent / "pictures", pictures.read(page.read_text(encoding="utf-8")))


def _measure(name: str, bench: Workbench, wanted: set[int]) -> Iterator[Line]:
    module = import_module(f"bench.rows.{name}")
    chosen = wanted & set(module.ROWS)
    if not chosen:
        return
    measure: Measure = module.measure
    started = time.monotonic()
    try:
        for line in measure(bench, chosen):
            print(line.markdown(), end="", file=sys.stderr, flush=True)
            yield line
    # A peer that is not installed must not cost the other rows
    except (Exception, AssertionError) as error:  # noqa: BLE001
        line = failed(min(chosen), error)
        print(line.markdown(), error, file=sys.stderr, flush=True)
        yield line
    print(f"({name}: {time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)


def _remarks(bench: Workbench, seconds: float) -> list[str]:
    scale = bench.scale
    pinned = "one core: nothing is pinned"
    if bench.server_core is not None:
        cores = f"the daemon (or floor) on core {bench.server_core}, the load generator on core {bench.load_core}"
        pinned = f"rows 1, 2, 3, 12, 13, 14 and 16: {cores}, both at the highest priority; other rows: not pinned"
    return [
        (
            f"{scale.name} run of {seconds:.0f} s; medians of {scale.repetitions} interleaved "
            "rounds, ratios are medians of each round's ratio"
        ),
        f"every round has drawn its keys anew, but where a line says otherwise; --seed {bench.draws.seed} draws the same",
        (
            f"load average of the last 15 minutes, at the end: {os.getloadavg()[2]:.1f} (the "
            "measurements alone make about 2)"
        ),
        pinned,
    ]


def _allow_many_files() -> None:
    """Raise the limit of open files, for the server as well as for the clients of thousands of connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
