"""What clients see while the database is away in every way a database can be.

2 000 lookups a second over 50 connections, half of them cached: some fresh throughout, some expired
since, whose stale answers stand in. Whatever happens: no key that exists is "not found", no value
is wrong, cached keys are answered at once, others fail in time, and soon after the database's
return all is as before.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.mariadb import MariaDB
from support.numbered_mail import address, configuration, fill, mailbox
from support.priority import NEEDED, put_ahead
from support.process import wait_until
from support.proxy import Proxy
from support.traffic import PROMPT, Sample, Traffic, percentile, statuses

HOT = 500
BEFORE = 1.0  # seconds of traffic before the outage
OUTAGE = float(
    os.environ.get("MAILMAPD_OUTAGE_SECONDS", "3")
)  # the long form, scripts/soak, uses 20
RETURN = 3.0  # seconds after the database's return in which all must be normal again
DEADLINE = 1.0 + 1.0 + 2.0 + 0.5  # connect, queue and query timeout, and what a loaded machine adds

pytestmark = pytest.mark.alone


def start(server: MariaDB) -> None:
    server.start()
    put_ahead(server.process.pid, NEEDED)


def serve(folder: Path, *hosts: str) -> Daemon:
    return Daemon(folder, configuration(folder, hosts))


def warm(daemon: Daemon) -> None:
    put_ahead(daemon.process.pid)
    with daemon.socketmap() as client:
        for user, name in itertools.product(range(HOT), ("mailboxes", "expiring")):
            assert client.ask(name, address(user)) == ("OK", mailbox(user))


def never_a_lie(samples: list[Sample]) -> None:
    """Every key exists: an answer is its value or "try again", never "not found", never another value."""
    assert set(statuses(samples)) <= {"OK", "TEMP"}, statuses(samples)


def go_through(daemon: Daemon, begin: Callable[[], object], end: Callable[[], object]) -> None:
    """Send traffic through an outage and judge what clients saw."""
    warm(daemon)
    with Traffic(f"{daemon.directory}/socketmap", hot=HOT) as traffic:
        time.sleep(BEFORE)
        began = time.monotonic()
        begin()
        time.sleep(OUTAGE)
        end()
        ended = time.monotonic()
        time.sleep(RETURN + 1.0)
    never_a_lie(traffic.samples)
    before, during, after = (
        traffic.since(0.0, began - 0.5),
        traffic.since(began, ended),
        traffic.since(ended + RETURN),
    )
    cached = {
        kind: [sample for sample in during if sample.kind == kind] for kind in ("fresh", "expiring")
    }
    uncached = [sample for sample in during if not sample.cached]
    slowest = max(sample.seconds for sample in traffic.samples)
    print(
        f"\n  {len(traffic.samples)} lookups; outage of {ended - began:.1f} s: "
        f"{dict(statuses(during))}; p99 of cached keys: "
        + ", ".join(
            f"{kind} {percentile(samples, 0.99) * 1e3:.2f} ms" for kind, samples in cached.items()
        )
        + f"; slowest of all {slowest:.2f} s; TEMP after {percentile(uncached, 0.5):.3f} s (median)"
    )
    assert set(statuses(before)) == {"OK"}
    assert set(statuses(sample for sample in traffic.samples if sample.cached)) == {"OK"}
    assert percentile([*cached["fresh"], *cached["expiring"]], 0.99) < PROMPT
    assert "TEMP" in statuses(uncached)
    assert slowest < DEADLINE
    assert set(statuses(after)) == {"OK"}, statuses(after)


def test_killed_and_restarted(server: MariaDB, short_path: Path) -> None:
    """The server is killed and comes back after a while."""
    with serve(short_path, f"unix:{server.socket}") as daemon:
        go_through(daemon, server.kill, lambda: start(server))


def test_stopped(server: MariaDB, short_path: Path) -> None:
    """The server's process is stopped (SIGSTOP) and goes on: nothing has piled up."""
    with serve(short_path, f"unix:{server.socket}") as daemon:
        go_through(daemon, server.pause, server.resume)
        assert len(server.connections("reader")) <= 8 + 2  # the pool, and a probe that is ending


def test_black_hole(server: MariaDB, short_path: Path) -> None:
    """The network swallows every packet to and from the server for a while, and nobody is told."""
    with Proxy(server.port) as proxy, serve(short_path, f"127.0.0.1:{proxy.port}") as daemon:
        go_through(daemon, proxy.swallow, proxy.forward)
        assert len(server.connections("reader")) <= 8 + 2


def test_login_refused(server: MariaDB, short_path: Path) -> None:
    """The account is locked and its connections are cut, then unlocked."""

    def lock() -> None:
        server.run_sql("ALTER USER 'reader'@'localhost' ACCOUNT LOCK")
        server.kill_connections("reader")

    with serve(short_path, f"unix:{server.socket}") as daemon:
        go_through(
            daemon, lock, lambda: server.run_sql("ALTER USER 'reader'@'localhost' ACCOUNT UNLOCK")
        )


def test_table_renamed(server: MariaDB, short_path: Path) -> None:
    """The table is renamed away and back: the log names it once, and /readyz would."""
    with serve(short_path, f"unix:{server.socket}") as daemon:
        go_through(
            daemon,
            lambda: server.run_sql("RENAME TABLE mail.mailbox TO mail.elsewhere"),
            lambda: server.run_sql("RENAME TABLE mail.elsewhere TO mail.mailbox"),
        )
        assert daemon.text().count("ERROR table mailbox: ") == 1, daemon.text()
        assert daemon.text().count("table mailbox: the query works again") == 1


def test_one_of_two_hosts_down(
    server: MariaDB, make_mariadb: Callable[..., MariaDB], short_path: Path
) -> None:
    """One of two hosts is killed: hardly anybody notices, and it is used again when it is back."""
    other = make_mariadb(tcp=True)
    fill(other)
    put_ahead(other.process.pid, NEEDED)
    with serve(short_path, f"127.0.0.1:{server.port}", f"127.0.0.1:{other.port}") as daemon:
        warm(daemon)
        with Traffic(f"{short_path}/socketmap", hot=HOT) as traffic:
            time.sleep(1.0)
            other.kill()
            time.sleep(OUTAGE)
            start(other)
            time.sleep(RETURN)
        fresh = percentile([sample for sample in traffic.samples if sample.kind == "fresh"], 0.99)
        print(
            f"\n  {len(traffic.samples)} lookups {dict(statuses(traffic.samples))}; p99 of fresh "
            f"keys {fresh * 1e3:.2f} ms"
        )
        assert set(statuses(traffic.samples)) == {"OK"}
        assert fresh < PROMPT  # expired ones ask the other host
        wait_until(
            lambda: len(other.connections("reader")) > 0 or len(server.connections("reader")) > 0,
            "connections",
        )
