"""What a start does, and does not do, before lookups are served."""

from __future__ import annotations

import signal
import sqlite3
import sys
from pathlib import Path

from blackbox.test_defects import CONFIG
from support.daemon import SOURCE
from support.process import ServerProcess, wait_until

SERVE = """
import gc, sys
from mailmapd.app.daemon import Daemon
from mailmapd.cli.serve import command

def say(name):
    method = getattr(Daemon, name)
    def said(self, *given, **named):
        print(name, gc.isenabled(), flush=True)
        return method(self, *given, **named)
    setattr(Daemon, name, said)

say("__init__")
say("_go_on")
command.callback(sys.argv[1])
"""


def test_garbage(short_path: Path) -> None:
    """The garbage collector rests until lookups are served, and no longer."""
    sqlite3.connect(short_path / "mail.sqlite").close()
    file = short_path / "mailmapd.toml"
    file.write_text(CONFIG.format(folder=short_path))
    environment = {"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin"}
    command = [sys.executable, "-c", SERVE, str(file)]
    process = ServerProcess(command, short_path / "log", env=environment)
    try:
        wait_until(lambda: "_go_on" in process.text(), "the daemon did not start")
        assert "__init__ False" in process.text()
        assert "_go_on True" in process.text()
    finally:
        process.stop(signal.SIGKILL)
