"""What docs/tuning.md gives to panels: its code is read from the page and runs against the daemon."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.daemon import SOURCE, Daemon
from support.guide import blocks, page

CONFIG = """
[listen]
socketmap = ["unix:{folder}/socketmap"]
control = "unix:{folder}/control"
[database.mail]
driver = "sqlite"
path = "{folder}/mail.sqlite"
changes = {{ follow = "no" }}
[table.alias]
database = "mail"
query = "SELECT destination FROM alias WHERE address = '%s'"
[map.aliases]
tables = ["alias"]
search = "address"
"""


@pytest.fixture
def daemon(short_path: Path) -> Iterator[Daemon]:
    """A daemon that remembers that new@example.com does not exist, although it does since a moment ago."""
    with sqlite3.connect(short_path / "mail.sqlite") as database:
        database.execute("CREATE TABLE alias (address, destination)")
    with Daemon(short_path, CONFIG.format(folder=short_path)) as daemon:
        with daemon.socketmap() as client:
            assert client.ask("aliases", b"new@example.com").status == "NOTFOUND"
            with sqlite3.connect(short_path / "mail.sqlite") as database:
                database.execute("INSERT INTO alias VALUES ('new@example.com', 'user')")
            assert client.ask("aliases", b"new@example.com").status == "NOTFOUND"
        database.close()
        yield daemon


def code(language: str, words: str) -> str:
    """Return the one block of docs/tuning.md in a language with some words in it."""
    [found] = [text for kind, text in blocks(page("tuning")) if kind == language and words in text]
    return found


def found(daemon: Daemon) -> bool:
    """Tell whether the new address is answered now."""
    with daemon.socketmap() as client:
        return client.ask("aliases", b"new@example.com").status == "OK"


def test_python(daemon: Daemon, short_path: Path) -> None:
    """The Python function makes a new address work at once."""
    names: dict[str, Any] = {}
    exec(code("python", "def forget"), names)  # noqa: S102 (our own page)
    reply = names["forget"]("new@example.com", str(short_path / "control"))
    assert reply["ok"]
    assert found(daemon)


def test_shell(daemon: Daemon, short_path: Path) -> None:
    """The hook of PostfixAdmin does, too, called with an address and more."""
    script = code("sh", "mailmapd-forget").replace(
        "exec mailmapd", f"exec {sys.executable} -m mailmapd"
    )
    script = script.replace("/run/mailmapd/control", f"{short_path}/control")
    subprocess.run(
        ["sh", "-c", script, "hook", "new@example.com", "example.com", "maildir", "0"],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        check=True,
        capture_output=True,
    )
    assert found(daemon)
