"""What normal clients notice of thousands that are idle, slow or deaf: next to nothing."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

import pytest

from mailmapd.server.connection import WRITE_AHEAD
from support.daemon import Daemon
from support.mariadb import MariaDB
from support.numbered_mail import address, configuration, mailbox
from support.priority import put_ahead
from support.process import ServerProcess, wait_until
from support.process_figures import open_files, resident_bytes
from support.traffic import Traffic, percentile, statuses

IDLE, SLOW, DEAF = 5000, 500, 500
HOT = 500
MEASURED = float(os.environ.get("MAILMAPD_CROWD_SECONDS", "5"))  # seconds of traffic without the crowd, and with it
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


def test_crowd(server: MariaDB, short_path: Path) -> None:
    """5 000 idle, 500 slow and 500 deaf connections: the others' p99 is within twice the quiet one, and memory is bounded."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < IDLE + SLOW + DEAF + 500:
        pytest.skip("this account may not open enough files")
    text = configuration(short_path, [f"unix:{server.socket}"]) + LONG
    crowd_command = [sys.executable, "-m", "support.crowd", f"{short_path}/socketmap", *map(str, (IDLE, SLOW, DEAF))]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with Daemon(short_path, text) as daemon:
        pid = daemon.process.pid
        put_ahead(pid)
        with daemon.socketmap() as client:
            for user in range(HOT):
                assert client.ask("mailboxes", address(user)) == ("OK", mailbox(user))
        with Traffic(f"{short_path}/socketmap", kinds=("fresh",), hot=HOT) as traffic:
            time.sleep(MEASURED)
            lonely, began, memory = traffic.since(0.0), time.monotonic(), resident_bytes(pid)
            crowd = ServerProcess(crowd_command, short_path / "crowd.log", env=environment)
            try:
                wait_until(lambda: "connected" in crowd.text(), "the crowd")
                connected = time.monotonic()
                time.sleep(MEASURED)
                crowded, files, more = traffic.since(connected), open_files(pid), resident_bytes(pid) - memory
                arriving = traffic.since(began, connected)
            finally:
                crowd.stop()
        assert set(statuses(traffic.samples)) == {"OK"}
    quiet, loud = percentile(lonely, 0.99), percentile(crowded, 0.99)
    print(
        f"\n  p99 {quiet * 1e3:.2f} ms alone, {percentile(arriving, 0.99) * 1e3:.2f} ms while the crowd arrives "
        f"({connected - began:.1f} s), {loud * 1e3:.2f} ms beside it; {more / 2**20:.0f} MiB more memory, {files} files"
    )
    assert files > IDLE + SLOW + DEAF
    assert loud < max(2 * quiet, quiet + GRAIN)
    assert more < (IDLE + SLOW + DEAF) * PER_CONNECTION + DEAF * (WRITE_AHEAD + LONG_VALUE)
