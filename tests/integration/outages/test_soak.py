"""Mixed load for as long as one likes: nothing that the daemon uses grows without end."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients import connect
from support.daemon import Daemon
from support.mariadb import MariaDB
from support.numbered_mail import LISTEN, address, configuration, mailbox
from support.process import free_port
from support.process_figures import open_files, resident_bytes
from support.traffic import Traffic, reasons, statuses

SECONDS = float(
    os.environ.get("MAILMAPD_SOAK_SECONDS", "30")
)  # the long form, scripts/soak, takes ten minutes
WARM_UP = 0.4  # the part of the time after which memory must stay as it is
SLOPE = 0.05  # how much more may be used at the end, by the straight line through all samples since then
SMALL = """
[cache]
max_entries = 5000
max_negative_entries = 2000
[limits]
drain_timeout = "2s"
"""
LISTENERS = LISTEN + 'control = "unix:{folder}/control"\nhttp = "127.0.0.1:{http}"\n'

pytestmark = [pytest.mark.alone, pytest.mark.servers]


def slope(samples: list[tuple[float, float]]) -> float:
    """Return the growth per second of the straight line through the samples (least squares)."""
    count = len(samples)
    middle, average = (
        sum(moment for moment, _ in samples) / count,
        sum(value for _, value in samples) / count,
    )
    spread = sum((moment - middle) ** 2 for moment, _ in samples)
    return sum((moment - middle) * (value - average) for moment, value in samples) / spread


class Disturbances:
    """Disturbances of a mail host beside its lookups, one thing after the other."""

    def __init__(self, daemon: Daemon, server: MariaDB) -> None:
        self._daemon = daemon
        self._server = server
        self._unknown = itertools.count(1)
        self._next = itertools.cycle(
            [
                self.unknown_users,
                self.new_connections,
                self.garbage,
                self.reload,
                self.lost_connections,
                self.scrape,
                self.flush,
            ]
        )

    def one(self) -> None:
        """Let the next thing happen."""
        act: Callable[[], None] = next(self._next)
        act()

    def unknown_users(self) -> None:
        """Ask for users that do not exist."""
        with self._daemon.socketmap() as client:
            for number in itertools.islice(self._unknown, 200):
                assert (
                    client.ask("mailboxes", b"user-9%d@example.com" % number).status == "NOTFOUND"
                )

    def new_connections(self) -> None:
        """Connect, ask and leave."""
        for number in range(100):
            with self._daemon.socketmap() as client:
                assert client.ask("mailboxes", address(number)) == ("OK", mailbox(number))

    def garbage(self) -> None:
        """Send what is not the protocol."""
        for _ in range(20):
            with connect(f"unix:{self._daemon.directory}/socketmap") as client:
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert client.recv(1) == b""

    def reload(self) -> None:
        """Send SIGHUP."""
        self._daemon.process.send_signal(signal.SIGHUP)

    def lost_connections(self) -> None:
        """Cut the daemon's connections to the database."""
        self._server.kill_connections("reader")

    def scrape(self) -> None:
        """Read the metrics, as Prometheus does."""
        assert self._daemon.metrics()

    def flush(self) -> None:
        """Forget everything."""
        done = self._daemon.command("flush", "--all")
        assert done.returncode == 0, done.stderr


@pytest.mark.timeout(3600)
def test_soak(server: MariaDB, short_path: Path) -> None:
    """Traffic, unknown users, new connections, garbage, reloads, lost connections, flushes.

    Memory stays flat, no descriptor is left.
    """
    listen = LISTENERS.replace("{http}", str(free_port()))
    with Daemon(
        short_path, configuration(short_path, [f"unix:{server.socket}"], listen) + SMALL
    ) as daemon:
        pid = daemon.process.pid
        disturbances = Disturbances(daemon, server)
        disturbances.scrape()
        files_before = open_files(pid)
        memory: list[tuple[float, float]] = []
        began = time.monotonic()
        with Traffic(f"{short_path}/socketmap", rate=1000.0) as traffic:
            while time.monotonic() < began + SECONDS:
                disturbances.one()
                time.sleep(0.2)
                memory.append((time.monotonic() - began, resident_bytes(pid)))
        seen = statuses(traffic.samples)
        time.sleep(3.0)  # the databases of the configurations before have their time to close
        files_after = open_files(pid)
        assert "Traceback" not in daemon.text()
    settled = [sample for sample in memory if sample[0] > SECONDS * WARM_UP]
    growth = slope(settled) * (settled[-1][0] - settled[0][0])
    print(
        f"\n  {SECONDS:.0f} s, {sum(seen.values())} lookups {dict(seen)}; "
        f"memory {settled[0][1] / 2**20:.1f} then {settled[-1][1] / 2**20:.1f} MiB "
        f"(line: {growth / 2**20:+.2f} MiB in {settled[-1][0] - settled[0][0]:.0f} s); files "
        f"{files_before} then {files_after}"
    )
    assert set(seen) == {"OK"}, reasons(traffic.samples)
    assert growth < settled[0][1] * SLOPE
    assert files_after <= files_before + 8  # a pool's connections
