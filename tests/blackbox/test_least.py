"""What the process keeps and shows of what it was told, as little as possible."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest

from support.daemon import SOURCE, Daemon
from support.process import ServerProcess, free_port, wait_until
from support.process_figures import resident_bytes

CONFIG = """
[listen]
socketmap = ["unix:{folder}/socketmap"]
dict = ["unix:{folder}/dict"]
lookup_http = "unix:{folder}/lookup"
http = "127.0.0.1:{http}"
[log]
level = "debug"
[database.mail]
driver = "sqlite"
path = "{folder}/mail.sqlite"
[table.alias]
database = "mail"
query = "SELECT destination FROM alias WHERE address = '%s'"
[table.passdb]
database = "mail"
dovecot_query = "SELECT address AS user, destination AS password FROM alias WHERE address = '%u'"
[map.aliases]
tables = ["alias"]
[dict.auth]
passdb = "passdb"
"""
HELLO = b"H3\t2\t0\t\tauth\n"
CONNECTIONS = 300
GROWTH = 60 * 2**20


@pytest.fixture
def daemon(short_path: Path) -> Daemon:
    """A daemon that logs all it can."""
    with sqlite3.connect(short_path / "mail.sqlite") as database:
        database.execute("CREATE TABLE alias (address TEXT, destination TEXT)")
        database.execute("INSERT INTO alias VALUES ('who@example.com', 'geheim')")
    database.close()
    return Daemon(short_path, CONFIG.format(folder=short_path, http=free_port()))


def test_debug_log_holds_no_addresses(daemon: Daemon) -> None:
    """The log of level debug names no address, row or password that was asked for or found, over no protocol."""
    with daemon:
        with daemon.socketmap() as client:
            for address in (b"who@example.com", b"nobody@example.com"):
                client.ask("aliases", address)
        with daemon.connect("dict") as connection:
            connection.sendall(HELLO + b"Lshared/passdb/who@example.com\twho@example.com\n")
            assert b"geheim" in connection.recv(1000)
        with daemon.connect("lookup_http") as connection:
            connection.sendall(
                b"GET /passdb?dict=auth&user=who%40example.com HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
            assert b"geheim" in connection.recv(1000)
    text = daemon.text()
    assert "ready" in text
    for word in ("who", "nobody", "example.com", "geheim", "SELECT"):
        assert word not in text


def test_refused_transactions_keep_nothing(daemon: Daemon) -> None:
    """Clients with open transactions full of changes cost what idle clients cost."""
    changes = b"B1\t" + b"u" * 60_000 + b"\n" + b"S1\tk\t" + b"v" * 60_000 + b"\n"
    with daemon:
        before = resident_bytes(daemon.process.pid)
        connections = [daemon.connect("dict") for _ in range(CONNECTIONS)]
        for connection in connections:
            connection.sendall(HELLO + changes + 15 * changes.partition(b"\n")[2])
        for connection in connections:
            connection.sendall(b"Lshared/passdb/nobody\tnobody\n")
            assert connection.recv(1000) == b"N\n"
        assert resident_bytes(daemon.process.pid) - before < GROWTH
        for connection in connections:
            connection.close()


def test_no_dump(short_path: Path, daemon: Daemon) -> None:
    """While it serves, the kernel neither dumps the process nor lets others than root read its memory."""
    text = """
import ctypes, sys
from mailmapd.app import run
from mailmapd.app.daemon import Daemon
class Telling(Daemon):
    async def run(self):
        print("dumpable", ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), file=sys.stderr, flush=True)
        await super().run()
run.serve(sys.argv[1], Telling)
"""
    process = ServerProcess(
        [sys.executable, "-c", text, str(daemon.config)],
        short_path / "log",
        env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin"},
    )
    wait_until(lambda: "dumpable" in process.text() or not process.running(), "the answer")
    assert process.stop() == 0
    assert "dumpable 0" in process.text()
