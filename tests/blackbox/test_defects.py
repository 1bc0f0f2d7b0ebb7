"""The real daemon with a defect put into it: it goes on, or ends, and SIGTERM always ends it."""

from __future__ import annotations

import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.daemon import SOURCE
from support.process import ServerProcess, wait_until

CONFIG = """
[listen]
socketmap = ["unix:{folder}/socketmap"]
[limits]
drain_timeout = "0.2s"
[database.mail]
driver = "sqlite"
path = "{folder}/mail.sqlite"
[table.mailbox]
database = "mail"
query = "SELECT '%s'"
[map.mailboxes]
tables = ["mailbox"]
"""
SERVE = """
import asyncio, sys, time
from mailmapd.app import defects, run
from mailmapd.app.daemon import Daemon
defects.STOP_GRACE = run.STOP_GRACE = 1.0
class Defective(Daemon):
    {defect}
run.serve(sys.argv[1], Defective)
"""
# What goes wrong, and when
NEVER_ENDS = """
    async def _shut_down(self):
        await asyncio.Event().wait()"""
STUCK = """
    async def run(self):
        asyncio.get_running_loop().call_later(1.0, self.spin)
        await super().run()
    def spin(self):
        print("stuck", file=sys.stderr, flush=True)
        while True:
            pass"""
NO_MEMORY = """
    async def run(self):
        asyncio.get_running_loop().call_later(1.0, self.fail)
        await super().run()
    def fail(self):
        raise MemoryError"""
SMALL = NO_MEMORY.replace("MemoryError", "ZeroDivisionError")

Start = Callable[[str], ServerProcess]


@pytest.fixture
def start(short_path: Path) -> Iterator[Start]:
    """Start daemons with a defect, written as a method."""
    sqlite3.connect(short_path / "mail.sqlite").close()
    file = short_path / "mailmapd.toml"
    file.write_text(CONFIG.format(folder=short_path))
    with ExitStack() as stack:

        def begin(defect: str) -> ServerProcess:
            command = [sys.executable, "-c", SERVE.format(defect=defect), str(file)]
            process = ServerProcess(
                command, short_path / "log", env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin"}
            )
            stack.callback(lambda: process.running() and process.stop(signal.SIGKILL))
            return process

        yield begin


def _told(process: ServerProcess, text: str) -> None:
    wait_until(lambda: text in process.text() or not process.running(), text)


@pytest.mark.parametrize(("defect", "word"), [(NEVER_ENDS, "ready"), (STUCK, "stuck")])
def test_sigterm_always_ends_it(start: Start, defect: str, word: str) -> None:
    """SIGTERM ends the process also when its end waits for ever, or its loop turns no more, with a
    traceback that says where it was.
    """
    process = start(defect)
    _told(process, word)
    begun = time.monotonic()
    process.stop()
    assert time.monotonic() - begun < 5
    assert "Timeout (0:00:01" in process.text()


def test_small_defect(start: Start) -> None:
    """A defect in a callback is a line of the log, and the process goes on."""
    process = start(SMALL)
    _told(process, "a defect of mailmapd")
    assert process.running()
    assert process.stop() == 0


def test_out_of_memory(start: Start) -> None:
    """Without memory the process ends at once, for the service manager to start it again."""
    process = start(NO_MEMORY)
    assert process.wait(20) == 71
    assert "out of memory" in process.text()
