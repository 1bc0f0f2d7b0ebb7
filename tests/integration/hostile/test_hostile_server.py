"""A database server whose answers or log mean harm: lookups go on meanwhile, and memory stays where it may be."""

from __future__ import annotations

import itertools
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mailmapd.databases.mysql.wire import MAX_RESULT
from support.clients import SocketmapClient
from support.daemon import Daemon
from support.hostile_server import HARM
from support.priority import put_ahead
from support.process import ServerProcess, free_port, wait_until
from support.process_figures import peak_bytes, resident_bytes

MIB = 2**20
CONFIG = """
[listen]
socketmap = ["unix:{folder}/socketmap"]
http = "127.0.0.1:{http}"
control = "unix:{folder}/control"
[limits]
drain_timeout = "0.05s"
[database.mail]
driver = "mysql"
hosts = ["127.0.0.1:{port}"]
user = "mail"
password = "p"
dbname = "mail"
[database.mail.changes]
follow = "yes"
[database.local]
driver = "sqlite"
path = "{folder}/local.sqlite"
[table.other]
database = "local"
query = "SELECT 'found' || '%s'"
[table.alias]
database = "mail"
query = "SELECT goto FROM alias WHERE address = '%s'"
[map.aliases]
tables = ["alias"]
[map.others]
tables = ["other"]
"""
SECONDS = 0.8  # of lookups
TRIES = 3  # of which the best counts: harm goes on all the time, what else disturbs this machine does not
GAP = 0.0005  # seconds between two lookups
GROWTH = 32 * MIB
LONGEST = 0.02  # seconds in which 99 of 100 lookups are answered

pytestmark = [pytest.mark.alone, pytest.mark.root]


LOGS = ("rows", "keys", "packed", "maps", "long", "tables", "wide")
CLIENTS = 10  # who ask for rows without a pause


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose file `kind` says what harm is done."""
    folder = tmp_path_factory.mktemp("log")
    (folder / "kind").write_text("quiet")
    sqlite3.connect(folder / "local.sqlite").close()
    return folder


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[Daemon]:
    """A daemon that follows such a server."""
    port = free_port()
    command = [sys.executable, "-m", "support.hostile_server", str(folder / "kind"), str(port)]
    server = ServerProcess(
        command, folder / "server.log", env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    os.sched_setscheduler(server.pid, os.SCHED_IDLE, os.sched_param(0))
    config = CONFIG.format(folder=folder, http=free_port(), port=port)
    try:
        with Daemon(folder, config) as daemon:
            put_ahead(daemon.process.pid)
            wait_until(lambda: "are followed" in daemon.text(), "the log to be followed")
            yield daemon
    finally:
        server.stop()


@pytest.fixture
def _ahead() -> Iterator[None]:
    """Put this process, which measures, ahead of other programs for the time of a test."""
    put_ahead(os.getpid())
    yield
    put_ahead(os.getpid(), 0)


def ask(client: SocketmapClient) -> list[float]:
    """Ask for a key that is in memory again and again; return how long each answer took."""
    took = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        begun = time.perf_counter()
        assert client.ask("others", b"hot") == ("OK", b"foundhot")
        took.append(time.perf_counter() - begun)
        time.sleep(GAP)
    return sorted(took)


class Figures(NamedTuple):
    """The figures of a kind of harm: latencies of hot lookups in seconds, and growth of memory in bytes."""

    p99: float
    longest: float
    grown: int


def measure(daemon: Daemon, folder: Path, kind: str) -> Figures:
    """Have harm done while hot lookups go on."""
    before = resident_bytes(daemon.process.pid)
    Path(f"/proc/{daemon.process.pid}/clear_refs").write_text("5")  # the peak counts from here
    (folder / "kind").write_text(kind)
    with daemon.socketmap() as client:
        took = ask(client)
        for _ in range(TRIES - 1):
            if took[len(took) * 99 // 100] >= LONGEST:
                took = ask(client)
    grown = peak_bytes(daemon.process.pid) - before
    figures = Figures(took[len(took) * 99 // 100], took[-1], grown)
    print(
        f"{kind}: p99 {figures.p99 * 1e3:.2f} ms, longest {figures.longest * 1e3:.1f} ms,"
        f" memory +{grown / MIB:.1f} MiB"
    )
    assert "defect" not in daemon.text()
    return figures


def behave_again(daemon: Daemon, folder: Path) -> None:
    """Have the server do no harm, and wait until its log is followed."""
    (folder / "kind").write_text("quiet")
    following = 'mailmapd_changes_following{database="mail"'

    def follows() -> bool:
        found = [value for key, value in daemon.metrics().items() if key.startswith(following)]
        return found == [1.0]

    wait_until(follows, "the log to be followed")


@pytest.mark.usefixtures("_ahead")
@pytest.mark.parametrize("kind", LOGS)
def test_log(daemon: Daemon, folder: Path, kind: str) -> None:
    """Whatever the log says without end, 99 of 100 hot lookups take 20 ms at most, and memory grows by 32 MiB."""
    behave_again(daemon, folder)
    figures = measure(daemon, folder, f"log {kind}")
    assert figures.p99 < LONGEST
    assert figures.grown < GROWTH


@pytest.fixture
def _crowd(daemon: Daemon) -> Iterator[None]:
    """Clients that ask for rows that are not in memory, one after the other."""
    ending = threading.Event()

    def go_on(number: int) -> None:
        with daemon.socketmap() as client:
            for count in itertools.count():
                if ending.is_set():
                    break
                client.ask("aliases", b"%d@%d.example" % (count, number))

    crowd = [threading.Thread(target=go_on, args=(number,)) for number in range(CLIENTS)]
    for thread in crowd:
        thread.start()
    yield
    ending.set()
    for thread in crowd:
        thread.join()


@pytest.mark.usefixtures("_ahead", "_crowd")
@pytest.mark.parametrize("kind", HARM)
def test_answers(daemon: Daemon, folder: Path, kind: str) -> None:
    """Whatever the server answers without end, the same holds, with a few replies for each of eight connections."""
    figures = measure(daemon, folder, kind)
    assert figures.p99 < LONGEST
    assert figures.grown < 8 * 3 * MAX_RESULT


def test_words(daemon: Daemon, folder: Path) -> None:
    """What a server says as it refuses its log is written out wherever a person reads it."""
    behave_again(daemon, folder)
    (folder / "kind").write_text("log words")
    wait_until(lambda: "forged" in daemon.text(), "a refusal")
    for text in (daemon.text(), daemon.command("stats").stdout, daemon.page("/")):
        assert not any(
            forged in text for forged in ("\x1b[2J", "\u009b31m", "\u202e", "\nERROR forged")
        )
    assert "forged" in daemon.command("stats", "--format", "json").stdout


def test_names_of_transactions(daemon: Daemon, folder: Path) -> None:
    """A server whose names of transactions are not understood is not followed, and that is no defect of ours."""
    behave_again(daemon, folder)
    (folder / "kind").write_text("log names")
    wait_until(lambda: "no identifier of a transaction" in daemon.text(), "the feed to end")
    assert "defect" not in daemon.text()


def test_quiet_again(daemon: Daemon, folder: Path) -> None:
    """When the server behaves again it is asked and followed, however it was left."""
    behave_again(daemon, folder)
    with daemon.socketmap() as client:
        wait_until(lambda: client.ask("aliases", b"a@b.c")[0] == "OK", "an answer")
