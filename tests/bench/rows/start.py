"""How long a mail host waits for its lookups after a start: from exec to the first answer (row 10)."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from bench import mailboxes
from bench.report import Line, about, count
from bench.rounds import interleave
from bench.rows.memory import MAP, configuration
from bench.source import Source
from bench.workbench import Workbench
from support.process import ServerFailed

ROWS = (10,)
LIMIT = 0.4
PATIENCE = 30.0
POLL = 0.0005
STATE = '[state]\ndirectory = "."\n'


def measure(bench: Workbench, _: set[int]) -> Iterator[Line]:
    """Yield the lines of row 10."""
    for source in bench.sources:
        yield from about(source.name, _measure(bench, source))


def _measure(bench: Workbench, source: Source) -> Iterator[Line]:
    cold, warm = (_installation(bench, source, entries) for entries in (0, bench.scale.entries))
    rounds = interleave(
        range(bench.scale.starts),
        {
            "cold": lambda _: first_answer(cold, source),
            "warm": lambda _: first_answer(warm, source),
        },
    )
    for name, what in (
        ("cold", "cold"),
        ("warm", f"with a cache file of {count(bench.scale.entries)} entries"),
    ):
        median, worst = statistics.median(rounds[name]), max(rounds[name])
        ours = f"{median:.2f} s (worst {worst:.2f} s)"
        yield Line(
            10,
            f"start, {what}: exec to first answer",
            ours,
            target=f"≤ {LIMIT:g} s",
            met=median <= LIMIT,
        )


def _installation(bench: Workbench, source: Source, entries: int) -> Path:
    """Return a folder with a configuration and, for a warm start, the cache file that a daemon left
    there when it was stopped.
    """
    config = STATE + configuration(bench.near, 86_400, entries)
    with bench.daemon(config, source=source, entries=entries) as daemon:
        folder = daemon.directory
    saved = folder / "cache"
    if entries and not saved.exists():
        raise ServerFailed(f"no cache file was left: {daemon.text()}")
    return folder


def first_answer(folder: Path, source: Source) -> float:
    """Start the daemon of a folder.

    Return the seconds from exec to its first answer, and kill it, so that its files stay as they
    are.
    """
    environment: Mapping[str, str] = os.environ | {"PYTHONPATH": str(source.package)}
    command = [sys.executable, "-m", "mailmapd", "serve", "--config", str(folder / "mailmapd.toml")]
    path = folder / "socketmap"
    path.unlink(missing_ok=True)
    with ExitStack() as stack:
        log = stack.enter_context((folder / "start.log").open("ab"))
        started = time.perf_counter()
        process = stack.enter_context(
            subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        )
        stack.callback(process.send_signal, signal.SIGKILL)
        _ask(path, f"{MAP} {mailboxes.address(0)}".encode())
        return time.perf_counter() - started


def _ask(path: Path, request: bytes) -> None:
    """Ask until a first answer comes."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            if client.connect_ex(str(path)) == 0:
                client.sendall(b"%d:%b," % (len(request), request))
                if b"OK " not in client.recv(1000):
                    raise ServerFailed("the first answer is not the mailbox")
                return
        time.sleep(POLL)
    raise ServerFailed(f"no answer within {PATIENCE:g} s")
