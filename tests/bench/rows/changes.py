"""Changes that are followed (row 15): how soon the daemon's answer is new, what following costs, and bulk changes.

freshness  one row is updated; from the return of COMMIT until the daemon answers with the new row, under load
rows       transactions of 1 000 rows each, just below what counts as bulk: rows for a second of processor time
bulk       one UPDATE of all rows: lookups' p99 meanwhile, beside that of quiet
idle       processor time of a second in which nothing changes
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.filled_daemon import BEAT
from bench.report import Line, count, times
from bench.workbench import BenchDaemon, Workbench
from support.clients import SocketmapClient
from support.followed import LOGGED
from support.mariadb import MariaDB
from support.process import wait_until
from support.process_figures import resident_bytes

ROWS = (15,)
LOAD = 2_000  # lookups a second
P99_TARGET, MAX_TARGET = 0.020, 0.100  # seconds
BULK_TARGET = 2.0
ACCOUNT, PASSWORD = "mail", "geheim"
BATCH = 1_000  # rows of one transaction
_TICKS = os.sysconf("SC_CLK_TCK")

CONFIG = """
[listen]
socketmap = ["unix:{{directory}}/socketmap"]
http = "127.0.0.1:{{port}}"
[database.mail]
driver = "mysql"
hosts = ["unix:{socket}"]
user = "{user}"
password = "{password}"
dbname = "changes"
[table.alias]
database = "mail"
query = "SELECT goto FROM alias WHERE address = '%s' AND active = 1"
[map.aliases]
tables = ["alias"]
search = "exact"
"""
SCHEMA = """
DROP DATABASE IF EXISTS changes; CREATE DATABASE changes CHARACTER SET utf8mb4;
CREATE TABLE changes.alias (address VARCHAR(255) PRIMARY KEY, goto TEXT NOT NULL, domain VARCHAR(255) NOT NULL,
  created DATETIME NOT NULL DEFAULT NOW(), active TINYINT NOT NULL DEFAULT 1);
"""


def measure(bench: Workbench, _: set[int]) -> Iterator[Line]:
    """Yield the lines of row 15."""
    quick = bench.scale.name == "quick"
    commits, rows = (300, 10_000) if quick else (5_000, 100_000)
    with MariaDB(bench.directory(), settings=LOGGED) as server:
        _fill(server, rows)
        config = CONFIG.format(socket=server.socket, user=ACCOUNT, password=PASSWORD)
        with bench.daemon(config, pinned=False) as daemon:
            wait_until(lambda: _follows(daemon), "the log is not followed")
            yield _idle(daemon)
            yield from _freshness(server, daemon, commits)
            yield _rows(server, daemon, rows)
            yield _bulk(server, daemon, rows)
            yield Line(15, "resident memory with changes followed", _mebibytes(daemon))


def _fill(server: MariaDB, rows: int) -> None:
    server.run_sql(SCHEMA)
    for start in range(0, rows, BATCH):
        values = ", ".join(
            f"('user{number}@example.com', 'old', 'example.com')"
            for number in range(start, start + BATCH)
        )
        server.run_sql(f"INSERT INTO changes.alias (address, goto, domain) VALUES {values}")
    server.grant(ACCOUNT, PASSWORD, "changes")
    for host in ("localhost", "127.0.0.1"):
        server.run_sql(f"GRANT REPLICATION SLAVE ON *.* TO {ACCOUNT}@{host}")


def _follows(daemon: BenchDaemon) -> bool:
    return any(
        name.startswith("mailmapd_changes_following") and value == 1
        for name, value in daemon.metrics().items()
    )


def _idle(daemon: BenchDaemon) -> Line:
    before, began = _processor_time(daemon), time.monotonic()
    time.sleep(2.0)
    used = (_processor_time(daemon) - before) / (time.monotonic() - began)
    return Line(15, "nothing changes: processor time of a second", f"{used * 1000:.1f} ms")


def _freshness(server: MariaDB, daemon: BenchDaemon, commits: int) -> Iterator[Line]:
    waits = []
    with (
        _load(daemon),
        daemon.socketmap() as client,
        server.connect("changes") as connection,
        connection.cursor() as cursor,
    ):
        for number in range(commits):
            key = f"user{number % 1_000}@example.com"
            _answer(client, key)  # it is in memory
            cursor.execute("UPDATE alias SET goto = %s WHERE address = %s", (f"v{number}", key))
            began = time.perf_counter()
            while _answer(client, key) != f"v{number}".encode():
                pass
            waits.append(time.perf_counter() - began)
    waits.sort()
    p99, longest = waits[len(waits) * 99 // 100], waits[-1]
    what = f"COMMIT returned → the daemon's answer is new, {count(commits)} commits under {count(LOAD)} lookups/s"
    median = statistics.median(waits)
    yield Line(15, f"{what}: median", f"{median * 1000:.2f} ms")
    yield _at_most(f"{what}: p99", p99, P99_TARGET)
    yield _at_most(f"{what}: longest", longest, MAX_TARGET)


def _at_most(what: str, seconds: float, target: float) -> Line:
    return Line(
        15,
        what,
        f"{seconds * 1000:.2f} ms",
        target=f"≤ {target * 1000:g} ms",
        met=seconds <= target,
    )


def _rows(server: MariaDB, daemon: BenchDaemon, rows: int) -> Line:
    before = _processor_time(daemon)
    with server.connect("changes") as connection, connection.cursor() as cursor:
        for start in range(0, rows, BATCH):
            names = ", ".join(
                f"'user{number}@example.com'" for number in range(start, start + BATCH)
            )
            cursor.execute(f"UPDATE alias SET goto = 'in part' WHERE address IN ({names})")
    with daemon.socketmap() as client:
        last = f"user{rows - 1}@example.com"
        wait_until(lambda: _answer(client, last) == b"in part", "the last row is not known")
    used = _processor_time(daemon) - before
    what = f"{count(rows)} changed rows in transactions of {count(BATCH)}"
    return Line(15, f"{what}: rows a second of processor time", f"{count(rows / used)}/s")


def _bulk(server: MariaDB, daemon: BenchDaemon, rows: int) -> Line:
    quiet = _tail(daemon, threading.Event(), 2.0)
    done = threading.Event()

    def update() -> None:
        for word in ("all", "of", "them"):
            server.run_sql(f"UPDATE changes.alias SET goto = '{word}'")
        done.set()

    writing = threading.Thread(target=update)
    writing.start()
    busy = _tail(daemon, done, 120.0)
    writing.join()
    ratio = busy / quiet
    return Line(
        15,
        f"p99 of lookups while one UPDATE changes {count(rows)} rows, three times",
        f"{busy * 1e6:.0f} µs",
        f"quiet {quiet * 1e6:.0f} µs",
        times(ratio),
        f"≤ {BULK_TARGET:g}",
        ratio <= BULK_TARGET,
    )


def _tail(daemon: BenchDaemon, done: threading.Event, longest: float) -> float:
    """Ask for one key that stays in memory, until `done`; return the 99th of 100 latencies, in seconds."""
    waits, end = [], time.monotonic() + longest
    with daemon.socketmap() as client:
        while not done.is_set() and time.monotonic() < end:
            began = time.perf_counter()
            _answer(client, "nobody@example.com")
            waits.append(time.perf_counter() - began)
            time.sleep(BEAT)
    waits.sort()
    return waits[len(waits) * 99 // 100]


@contextmanager
def _load(daemon: BenchDaemon) -> Iterator[None]:
    """Have `LOAD` lookups a second asked beside."""
    stop = threading.Event()

    def ask() -> None:
        with daemon.socketmap() as client:
            number, began = 0, time.monotonic()
            while not stop.is_set():
                while number < (time.monotonic() - began) * LOAD:
                    _answer(client, f"user{number % 5_000}@example.com")
                    number += 1
                time.sleep(BEAT)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        stop.set()
        asking.join()


def _answer(client: SocketmapClient, key: str) -> bytes:
    return client.ask("aliases", key.encode()).value


def _processor_time(daemon: BenchDaemon) -> float:
    """Return the seconds of processor time that the daemon has used."""
    with open(f"/proc/{daemon.process.pid}/stat", encoding="ascii") as file:  # noqa: PTH123
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _mebibytes(daemon: BenchDaemon) -> str:
    return f"{resident_bytes(daemon.process.pid) / 2**20:.0f} MiB"
