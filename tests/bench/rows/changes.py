"""Changes that are followed (row 15): how soon the daemon's answer is new, what following costs, and bulk changes.

freshness  one row is updated; from the return of COMMIT until the daemon answers with the new row, under load
rows       transactions of 1 000 rows each, just below what counts as bulk: rows for a second of processor time, of
           a narrow table and of a wide one, beside mysql-replication, which reads them and forgets nothing
bulk       one UPDATE of all rows: lookups' p99 meanwhile, beside that of quiet
idle       processor time of a minute in which nothing changes, and memory
"""

from __future__ import annotations

import os
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from bench import programs
from bench.accounting import processor_seconds
from bench.filled_daemon import BEAT
from bench.report import Line, count, micros, times
from bench.rounds import interleave, median_ratio
from bench.workbench import BenchDaemon, Workbench
from support.clients import SocketmapClient
from support.followed import LOGGED
from support.mariadb import MariaDB
from support.priority import put_first
from support.process import ServerFailed, wait_until
from support.process_figures import resident_bytes

ROWS = (15,)
LOAD = 2_000  # lookups a second
P99_TARGET, MAX_TARGET = 0.020, 0.100  # seconds
BULK_TARGET = 2.0
BULK_KEYS = 5_000
ACCOUNT, PASSWORD = "mail", "geheim"
BATCH = 1_000  # rows of one transaction
TABLES = {"alias": "5 columns", "mailbox": "44 columns"}
SETTLED = 1.0  # seconds until what a start has left to do is done
COLUMNS = 40
"""Columns of the wide table beside those of the narrow one."""

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
[map.alias]
tables = ["alias"]
search = "exact"
[table.mailbox]
database = "mail"
query = "SELECT goto FROM mailbox WHERE address = '%s' AND active = 1"
[map.mailbox]
tables = ["mailbox"]
search = "exact"
"""
SCHEMA = """
DROP DATABASE IF EXISTS changes; CREATE DATABASE changes CHARACTER SET utf8mb4;
CREATE TABLE changes.alias (address VARCHAR(255) PRIMARY KEY, goto TEXT NOT NULL, domain VARCHAR(255) NOT NULL,
  created DATETIME NOT NULL DEFAULT NOW(), active TINYINT NOT NULL DEFAULT 1);
CREATE TABLE changes.mailbox (address VARCHAR(255) PRIMARY KEY, goto TEXT NOT NULL, domain VARCHAR(255) NOT NULL,
  {columns}, active TINYINT NOT NULL DEFAULT 1);
"""
KINDS = (
    "VARCHAR(255) NOT NULL DEFAULT 'as everybody has it'",
    "BIGINT NOT NULL DEFAULT 1024",
    "DATETIME NOT NULL DEFAULT NOW()",
    "TINYINT NOT NULL DEFAULT 1",
)
"""The columns of the wide table in turn: such as names, quotas, dates, and whether a service is allowed."""


def measure(bench: Workbench, _: set[int]) -> Iterator[Line]:
    """Yield the lines of row 15."""
    quick = bench.scale.name == "quick"
    commits, rows = (300, 10_000) if quick else (5_000, 100_000)
    with MariaDB(bench.directory(), settings=LOGGED) as server:
        _fill(server, rows)
        config = CONFIG.format(socket=server.socket, user=ACCOUNT, password=PASSWORD)
        followed = f'{config}[database.mail.changes]\nfollow = "yes"\n'
        alone = f'{config}[database.mail.changes]\nfollow = "no"\n'
        quiet = 3.0 if quick else 60.0
        with bench.daemon(alone, pinned=False) as daemon:
            time.sleep(SETTLED)
            without = _idle(daemon, quiet)
            empty = resident_bytes(daemon.process.pid)
        with bench.daemon(followed, pinned=False) as daemon:
            wait_until(lambda: _follows(daemon), "the log is not followed")
            time.sleep(SETTLED)
            yield _used_in_a_minute(_idle(daemon, quiet), without)
            yield _memory(daemon, empty)
            yield from _freshness(server, daemon, commits)
            yield from _rows(server, daemon, rows)
            with bench.daemon(alone, pinned=False) as other:
                yield from _bulk(bench, server, daemon, other, rows)


def _fill(server: MariaDB, rows: int) -> None:
    columns = ", ".join(f"c{n} {KINDS[n % len(KINDS)]}" for n in range(COLUMNS))
    server.run_sql(SCHEMA.format(columns=columns))
    for start in range(0, rows, BATCH):
        values = ", ".join(
            f"('user{number}@example.com', 'old', 'example.com')"
            for number in range(start, start + BATCH)
        )
        for table in TABLES:
            server.run_sql(f"INSERT INTO changes.{table} (address, goto, domain) VALUES {values}")
    server.grant(ACCOUNT, PASSWORD, "changes")
    for host in ("localhost", "127.0.0.1"):
        server.run_sql(f"GRANT REPLICATION SLAVE ON *.* TO {ACCOUNT}@{host}")


def _follows(daemon: BenchDaemon) -> bool:
    return any(
        name.startswith("mailmapd_changes_following") and value == 1
        for name, value in daemon.metrics().items()
    )


def _idle(daemon: BenchDaemon, seconds: float) -> float:
    """Return the processor time that the daemon uses in a minute, in seconds."""
    before, began = processor_seconds(daemon.process.pid), time.monotonic()
    time.sleep(seconds)
    used = processor_seconds(daemon.process.pid) - before
    return used * 60 / (time.monotonic() - began)


def _used_in_a_minute(followed: float, without: float) -> Line:
    what = "nothing changes, a heartbeat each second: processor time of a minute"
    peer = f"nothing followed: {without * 1000:.0f} ms"
    return Line(15, what, f"{followed * 1000:.0f} ms", peer, target="reported")


def _memory(daemon: BenchDaemon, without: int) -> Line:
    used = resident_bytes(daemon.process.pid)
    peer = f"nothing followed: {without / 2**20:.0f} MiB"
    what = "resident memory with two queries followed, before any lookup"
    return Line(15, what, f"{used / 2**20:.0f} MiB", peer, target="reported")


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


def _rows(server: MariaDB, daemon: BenchDaemon, rows: int) -> Iterator[Line]:
    """Change every row of either table; let the daemon follow, and the peer read the same piece of the log."""
    for table, columns in TABLES.items():
        server.run_sql("FLUSH BINARY LOGS")
        file, position, *_ = server.run_sql("SHOW MASTER STATUS")[0]
        ours = rows / _following(server, daemon, table, rows)
        what = f"{count(rows)} changed rows of {columns} in transactions of {count(BATCH)}: rows a second of processor time"
        place = (str(server.socket), file, str(position), table, str(rows))
        try:
            read = programs.peer("replication_peer", *place)
        except ServerFailed as error:
            yield Line(15, what, f"{count(ours)}/s", f"not measured: {error}", target="reported")
            continue
        theirs = read["rows"] / read["seconds"]
        yield Line(
            15,
            what,
            f"{count(ours)}/s",
            f"mysql-replication, reading only: {count(theirs)}/s",
            times(ours / theirs),
            "reported",
        )


def _following(server: MariaDB, daemon: BenchDaemon, table: str, rows: int) -> float:
    """Return the processor time for changes of all rows, each of which is in memory and is dropped for it."""
    with daemon.socketmap() as client:
        for number in range(rows):
            _answer(client, f"user{number}@example.com", table)
        before = processor_seconds(daemon.process.pid)
        _change(server, table, rows)
        last = f"user{rows - 1}@example.com"
        wait_until(lambda: _answer(client, last, table) == b"in part", "the last row is not known")
        return processor_seconds(daemon.process.pid) - before


def _change(server: MariaDB, table: str, rows: int) -> None:
    with server.connect("changes") as connection, connection.cursor() as cursor:
        # The peer knows the names of columns by the log alone
        cursor.execute("SET GLOBAL binlog_row_metadata = FULL")
        for start in range(0, rows, BATCH):
            names = ", ".join(
                f"'user{number}@example.com'" for number in range(start, start + BATCH)
            )
            cursor.execute(f"UPDATE {table} SET goto = 'in part' WHERE address IN ({names})")


def _bulk(
    bench: Workbench, server: MariaDB, followed: BenchDaemon, alone: BenchDaemon, rows: int
) -> Iterator[Line]:
    """Ask beside UPDATE after UPDATE: a daemon that follows them, and one that follows nothing.

    The daemons have a core of their own, and that one comes first which has less to do. The server shares the other
    core with who asks, who comes first.
    """
    programs.pin(server.process.pid, bench.load_core, ahead=False)
    for place, daemon in enumerate((followed, alone), 1):
        programs.pin(daemon.process.pid, bench.server_core)
        put_first(daemon.process.pid, place)
        with daemon.socketmap() as client:
            for number in range(BULK_KEYS):
                _answer(client, f"user{number}@example.com", "mailbox")
    seconds = bench.scale.seconds * 2
    with ThreadPoolExecutor(1, initializer=_first, initargs=(bench.load_core,)) as asker:

        def quiet(table: str) -> float:
            return asker.submit(_tail, followed, table, seconds).result()

        def busy(table: str, daemon: BenchDaemon) -> float:
            with _updating(server, followed, rows):
                return asker.submit(_tail, daemon, table, seconds).result()

        for table, of_which in (("mailbox", "of another table"), ("alias", "of this table")):
            contenders: dict[str, Callable[[str], float]] = {
                "quiet": quiet,
                "busy": partial(busy, daemon=followed),
                "alone": partial(busy, daemon=alone),
            }
            rounds = interleave([table] * bench.scale.repetitions, contenders)
            ratio = median_ratio(rounds["busy"], rounds["quiet"])
            middle = {name: micros(statistics.median(found)) for name, found in rounds.items()}
            target = BULK_TARGET if table == "mailbox" else None
            yield Line(
                15,
                f"p99 of lookups {of_which} while UPDATE after UPDATE changes {count(rows)} rows",
                middle["busy"],
                f"quiet {middle['quiet']}; the same UPDATEs, not followed: {middle['alone']}",
                times(ratio),
                "reported" if target is None else f"≤ {target:g}",
                None if target is None else ratio <= target,
            )


def _first(core: int | None) -> None:
    """Keep this thread on one core, before whatever else wants it."""
    if core is not None:
        os.sched_setaffinity(0, {core})
        put_first(0)


def _tail(daemon: BenchDaemon, name: str, seconds: float) -> float:
    """Ask a map `LOAD` times a second; return the 99th of 100 latencies, in microseconds."""
    waits: list[float] = []
    end = time.monotonic() + seconds
    with daemon.socketmap() as client:
        while time.monotonic() < end:
            for _ in range(round(LOAD * BEAT)):
                key = f"user{len(waits) % BULK_KEYS}@example.com"
                began = time.perf_counter()
                _answer(client, key, name)
                waits.append(time.perf_counter() - began)
            time.sleep(BEAT)
    waits.sort()
    return waits[len(waits) * 99 // 100] * 1e6


@contextmanager
def _updating(server: MariaDB, daemon: BenchDaemon, rows: int) -> Iterator[None]:
    """Change all rows of a table, again and again; at the end wait until the daemon has followed."""
    stop, last = threading.Event(), ""

    def update() -> None:
        nonlocal last
        while not stop.is_set():
            last = secrets.token_hex(4)
            server.run_sql(f"UPDATE changes.alias SET goto = '{last}'")

    writing = threading.Thread(target=update)
    writing.start()
    try:
        yield
    finally:
        stop.set()
        writing.join()
        with daemon.socketmap() as client:
            key = f"user{rows - 1}@example.com"
            wait_until(lambda: _answer(client, key) == last.encode(), "the last one is not known")
            time.sleep(SETTLED)


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


def _answer(client: SocketmapClient, key: str, name: str = "alias") -> bytes:
    return client.ask(name, key.encode()).value
