"""Keys, rows and messages with control characters, through the real program: nowhere do they reach
a person's screen as they are.
"""

from __future__ import annotations

import json
import os
import pty
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner

from mailmapd.cli import mailmapd
from support.daemon import SOURCE, Daemon
from support.process import free_port

EVIL = "x\x1b[2J\nERROR forged\x9b31m\u202e"
CONFIG = """
[listen]
socketmap = ["unix:{folder}/socketmap"]
http = "127.0.0.1:{http}"
control = "unix:{folder}/control"
[database.mail]
driver = "sqlite"
path = "{folder}/mail.sqlite"
[table.alias]
database = "mail"
query = "SELECT destination FROM alias WHERE address = '%s'"
[table.broken]
database = "mail"
query = "SELECT destination FROM \\"{evil}\\" WHERE address = '%s'"
[map.aliases]
tables = ["alias"]
[map.broken]
tables = ["broken"]
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a row and a table's name that want to be obeyed."""
    folder = tmp_path_factory.mktemp("text")
    with sqlite3.connect(folder / "mail.sqlite") as database:
        database.execute("CREATE TABLE alias (address TEXT, destination TEXT)")
        database.execute("INSERT INTO alias VALUES ('a', ?)", (EVIL,))
    database.close()
    evil = EVIL.encode("unicode_escape").decode().replace("\\x", "\\u00")
    with Daemon(folder, CONFIG.format(folder=folder, http=free_port(), evil=evil)) as daemon:
        with daemon.socketmap() as client:
            assert client.ask("aliases", b"a") == ("OK", EVIL.encode())
            assert client.ask("broken", b"a").status == "TEMP"
            client.ask("aliases", EVIL.encode())
        yield daemon


def harmless(text: str) -> None:
    assert "forged" in text
    assert not any(character in text for character in "\x1b\x9b\u202e")
    assert "\nERROR forged" not in text


def test_log_and_pages(daemon: Daemon) -> None:
    """The log, /readyz and the status page write such characters out."""
    harmless(daemon.text())
    harmless(daemon.page("/"))
    connection = daemon.connect("http")
    with connection:
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        harmless(b"".join(iter(lambda: connection.recv(65536), b"")).decode())


@pytest.mark.parametrize(
    "arguments",
    [
        ("query", "aliases", "a"),
        ("query", "broken", "a"),
        ("trace", "aliases", "a"),
        ("trace", "aliases", "--format", "json", "a"),
        ("trace", "broken", "a"),
        ("trace", "aliases", EVIL),
        ("check",),
        ("check", "--format", "json"),
        ("stats",),
    ],
)
def test_commands_on_a_terminal(daemon: Daemon, arguments: tuple[str, ...]) -> None:
    """What a command shows on a terminal holds no control characters but its own colours."""
    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "mailmapd", *arguments, "--config", str(daemon.config)]
    process = subprocess.Popen(
        command,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={
            "PYTHONPATH": str(SOURCE),
            "PATH": os.environ["PATH"],
            "NO_COLOR": "1",
            "TERM": "dumb",
        },
    )
    os.close(terminal)
    seen = b""
    try:
        while data := os.read(screen, 65536):
            seen += data
    except OSError:  # the program has ended
        pass
    process.wait()
    os.close(screen)
    text = seen.decode().replace("\r\n", "\n")
    for own in ("\x1b[1m", "\x1b[0m", "\x1b[31m", "\x1b[32m"):
        text = text.replace(own, "")
    harmless(text)


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (("reload",), {"faults": [EVIL]}),
        (("flush", "--all"), {"dropped": {EVIL: 1}, "unconfirmed": [], "failure": ""}),
        (("flush", "--all"), {"dropped": {}, "unconfirmed": [EVIL], "failure": ""}),
        (("flush", "--all"), {"dropped": {}, "unconfirmed": [], "failure": EVIL}),
        (("flush", "--all"), {"ok": False, "error": "unavailable", "message": EVIL}),
    ],
)
def test_what_a_daemon_says(short_path: Path, command: tuple[str, ...], reply: object) -> None:
    """Whatever answers at the control socket, a terminal obeys none of it."""
    path = str(short_path / "control")
    with socket.socket(socket.AF_UNIX) as bound, ThreadPoolExecutor() as pool:
        bound.bind(path)
        bound.listen()

        def answer() -> None:
            with bound.accept()[0] as client:
                client.recv(65536)
                client.sendall(
                    json.dumps({"ok": True} | cast("dict[str, object]", reply)).encode() + b"\n"
                )

        answering = pool.submit(answer)
        done = CliRunner().invoke(mailmapd, [*command, "--socket", f"unix:{path}"])
        answering.result()
    harmless(done.output)


def test_query_for_programs(daemon: Daemon) -> None:
    """A program that reads the output of query gets the value as it is, as from postmap -q."""
    assert daemon.command("query", "aliases", "a").stdout == EVIL + "\n"
