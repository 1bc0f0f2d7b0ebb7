"""The measuring programs in C: compiled at run time, and run with their one JSON object read."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from support.priority import put_ahead
from support.process import ServerFailed, program

SOURCES = Path(__file__).parent
PEERS = SOURCES.parents[1] / "out/bench-peers/bin/python"
"""The interpreter of the environment in which scripts/bench installs peers that are Python packages."""

COMPILER = "cc"
COMPILER_PACKAGE = "gcc libc6-dev"

Figures = dict[str, float]


@cache
def build(name: str, directory: Path) -> str:
    """Compile a program into the directory and return its path."""
    target = directory / name
    command = [
        program(COMPILER, COMPILER_PACKAGE),
        "-O2",
        "-o",
        str(target),
        str(SOURCES / f"{name}.c"),
        "-lm",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServerFailed(f"{name}.c does not compile: {done.stderr}")
    return str(target)


def peer(name: str, *arguments: str) -> Figures:
    """Run one of the programs in the environment of the peers, and return what it measured."""
    if not PEERS.exists():
        raise ServerFailed("the peers in Python are not installed: scripts/bench does that")
    return figures([str(PEERS), str(SOURCES / f"{name}.py"), *arguments])


def figures(command: Sequence[str], core: int | None = None) -> Figures:
    """Run a measuring program, on one core if given, and return what it measured."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        pin(process.pid, core)
        output, errors = process.communicate(timeout=600)
    if process.returncode != 0:
        raise ServerFailed(f"{Path(command[0]).name} failed: {errors.strip()}")
    measured: Figures = json.loads(output)
    return measured


def pin(pid: int, core: int | None, *, ahead: bool = True) -> None:
    """Keep every thread of a process on one core, `ahead` of whatever else wants it; None leaves it to the kernel."""
    if core is not None:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})
            if ahead:
                put_ahead(int(task.name))
