"""Who may ask for hashes: the sockets' modes and peers, tried by other users' processes; and what a reload changes."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.clients import Client
from support.daemon import Daemon
from support.process import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.root]

ASK_DICT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as one:
    one.connect(sys.argv[1])
    try:
        one.sendall(b"H3\\t2\\t0\\t\\tauth\\nLshared/passdb/a@b\\ta@b\\n")
        print(one.recv(1000).decode())
    except ConnectionError:
        print("closed")
"""
ASK_HTTP = """
import socket, sys
with socket.socket(socket.AF_UNIX) as one:
    one.connect(sys.argv[1])
    one.sendall(b"GET /passdb?dict=auth&user=a%40b HTTP/1.0\\r\\n\\r\\n")
    print(b"".join(iter(lambda: one.recv(1000), b"")).decode())
"""
CONFIG = """
[listen]
dict = [{{address = "unix:{directory}/open", mode = "0666", peers = ["mail"]}}, "unix:{directory}/closed"]
lookup_http = {{address = "unix:{directory}/http", mode = "0666", peers = ["mail"]}}
[database.mail]
driver = "sqlite"
path = "{directory}/mail.sqlite"
[table.passdb]
database = "mail"
dovecot_query = "SELECT '{{PLAIN}}geheim' AS password WHERE '%u' = 'a@b'"
[dict.{name}]
passdb = "passdb"
"""


@pytest.fixture
def daemon(short_path: Path) -> Iterator[Daemon]:
    """A daemon over an empty SQLite file, whose one user is a@b."""
    (short_path / "mail.sqlite").touch()
    with Daemon(short_path, CONFIG.format(directory=short_path, name="auth")) as running:
        yield running


def ask(user: str, script: str, socket: Path) -> str:
    """Return what a process of another user is told."""
    command = [
        "setpriv",
        f"--reuid={user}",
        "--regid=nogroup",
        "--clear-groups",
        "/usr/bin/python3",
        "-c",
        script,
        str(socket),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def test_peers_of_the_dict(daemon: Daemon) -> None:
    """A process of a listed user gets the hash, one of another user gets nothing, although the mode lets it in."""
    assert "{PLAIN}geheim" in ask("mail", ASK_DICT, daemon.directory / "open")
    told = ask("nobody", ASK_DICT, daemon.directory / "open")
    assert "geheim" not in told
    assert "is not one of its peers" in daemon.text()


def test_peers_of_the_lookup_socket(daemon: Daemon) -> None:
    """The HTTP socket answers a listed user, and hangs up on another before it has asked."""
    assert "{PLAIN}geheim" in ask("mail", ASK_HTTP, daemon.directory / "http")
    told = ask("nobody", ASK_HTTP, daemon.directory / "http")
    assert "HTTP/" not in told
    assert "geheim" not in told
    assert "listener lookup_http: refused process" in daemon.text()


def test_default_mode(daemon: Daemon) -> None:
    """Without a mode, only the socket's owner and group can connect."""
    assert (daemon.directory / "closed").stat().st_mode & 0o777 == 0o660
    assert "PermissionError" in ask("nobody", ASK_DICT, daemon.directory / "closed")


def test_reload_replaces_dicts(daemon: Daemon) -> None:
    """After a reload, open connections get answers of the new configuration, and a dict that is gone refuses."""
    with Client(daemon.connect("dict")) as client:
        client.send(b"H3\t2\t0\t\tauth\nLshared/passdb/a@b\ta@b\n")
        assert client.stream.readline() == b'O{"password": "{PLAIN}geheim"}\n'
        daemon.write_config(
            CONFIG.format(directory=daemon.directory, name="auth").replace("geheim", "changed")
        )
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in daemon.text(), "the reload")
        client.send(b"Lshared/passdb/a@b\ta@b\n")
        assert client.stream.readline() == b'O{"password": "{PLAIN}changed"}\n'
        daemon.write_config(CONFIG.format(directory=daemon.directory, name="other"))
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: daemon.text().count("configuration reloaded") == 2, "the second reload")
        client.send(b"Lshared/passdb/a@b\ta@b\n")
        assert client.stream.readline() == b"Fmailmapd has no dict auth; its dicts are: other\n"
