"""What normal clients notice of thousands that are idle, slow or deaf: next to nothing."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest

from mailmapd.server.flow_control import WRITE_AHEAD
from support.daemon import Daemon
from support.mariadb import MariaDB
from support.numbered_mail import address, configuration, mailbox
from support.priority import put_ahead
from support.process import ServerProcess, wait_until
from support.process_figures import open_files, resident_bytes
from support.traffic import PROMPT, Traffic, percentile, statuses

IDLE, SLOW, DEAF = 5000, 500, 500
HOT = 500
ROUNDS = 3  # without the crowd and beside it, in turns, because the machine has other things to do as well
MEASURED = float(
    os.environ.get("MAILMAPD_CROWD_SECONDS", "2")
)  # seconds of traffic in each of them
PROMISED = 0.020  # seconds: what a quiet machine is held to; a crowded one may take PROMPT
GRAIN = 0.001  # seconds below which a difference of latencies says something of the scheduler only
LONG_VALUE = 60_000  # bytes
PER_CONNECTION = 24 * 1024  # bytes of memory that a connection may cost when nothing waits in it

LONG = f"""
[table.long]
database = "mail"
query = "SELECT REPEAT('x', {LONG_VALUE}) FROM mailbox WHERE id = SUBSTRING('%u', 5)"
[map.long]
tables = ["long"]
search = "exact"
"""

pytestmark = [pytest.mark.alone, pytest.mark.servers]


@contextmanager
def crowd(folder: Path) -> Iterator[None]:
    """Connect the crowd, and let it go again."""
    command = [
        sys.executable,
        "-m",
        "support.crowd",
        f"{folder}/socketmap",
        *map(str, (IDLE, SLOW, DEAF)),
    ]
    log = folder / "crowd.log"
    process = ServerProcess(
        command, log, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    )
    try:
        process.wait_ready(lambda: "connected" in process.text(), "the crowd")
        yield
    finally:
        process.stop()
        log.unlink()


def test_crowd(server: MariaDB, short_path: Path) -> None:
    """5 000 idle, 500 slow and 500 deaf connections.

    The others' p99 is within twice the quiet one, and memory is bounded.
    """
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < IDLE + SLOW + DEAF + 500:
        pytest.skip("this account may not open enough files")
    quiet: list[float] = []
    loud: list[float] = []
    files, more = 0, 0  # beside the crowd, in the last round
    with Daemon(short_path, configuration(short_path, [f"unix:{server.socket}"]) + LONG) as daemon:
        pid = daemon.process.pid
        put_ahead(pid)
        with daemon.socketmap() as client:
            for user in range(HOT):
                assert client.ask("mailboxes", address(user)) == ("OK", mailbox(user))
        memory, alone = resident_bytes(pid), open_files(pid)
        with Traffic(f"{short_path}/socketmap", kinds=("fresh",), hot=HOT) as traffic:

            def measure() -> float:
                began = time.monotonic()
                time.sleep(MEASURED)
                return percentile(traffic.since(began), 0.99)

            for _ in range(ROUNDS):
                quiet.append(measure())
                with crowd(short_path):
                    loud.append(measure())
                    files, more = open_files(pid), resident_bytes(pid) - memory
                assert files > IDLE + SLOW + DEAF
                wait_until(
                    lambda: open_files(pid) < alone + 100, "the end of the crowd's connections"
                )
        assert set(statuses(traffic.samples)) == {"OK"}
    print(
        f"\n  p99 alone {', '.join(f'{seconds * 1e3:.2f}' for seconds in quiet)} ms, "
        f"beside the crowd {', '.join(f'{seconds * 1e3:.2f}' for seconds in loud)} ms; "
        f"{more / 2**20:.0f} MiB more memory, {files} files"
    )
    assert median(loud) < max(
        2 * median(quiet), median(quiet) + GRAIN, PROMPT if PROMPT > PROMISED else 0.0
    )
    assert more < (IDLE + SLOW + DEAF) * PER_CONNECTION + DEAF * (WRITE_AHEAD + LONG_VALUE)
