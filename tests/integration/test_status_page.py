"""The status page of the real daemon, as a browser and as a program see it."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.process import free_port

CONFIG = """
[listen]
socketmap = ["unix:{folder}/socketmap"]
http = "127.0.0.1:{http}"
[database.mail]
driver = "sqlite"
path = "{folder}/mail.sqlite"
[database.away]
driver = "mysql"
hosts = ["unix:{folder}/nothere"]
user = "mail"
password = "s3cr3t"
[table.alias]
database = "mail"
query = "SELECT destination FROM alias WHERE address = '%s'"
[table.away]
database = "away"
query = "SELECT AES_DECRYPT(a, 'k3y') FROM t WHERE k = '%s'"
[map."<aliases>"]
tables = ["alias"]
[map.broken]
tables = ["away"]
"""


@pytest.fixture
def daemon(short_path: Path) -> Iterator[Daemon]:
    connection = sqlite3.connect(short_path / "mail.sqlite")
    connection.executescript(
        "CREATE TABLE alias (address, destination); INSERT INTO alias VALUES ('info@example.com', 'user');"
    )
    connection.close()
    with Daemon(short_path, CONFIG.format(folder=short_path, http=free_port())) as daemon:
        with daemon.socketmap() as client:
            for _ in range(9):
                assert client.ask("<aliases>", b"info@example.com").status == "OK"
            assert client.ask("broken", b"info@example.com").status == "TEMP"
        yield daemon


def request(daemon: Daemon, text: str) -> tuple[str, dict[str, str], str]:
    """Send one request; return status line, headers and body."""
    connection = daemon.connect("http")
    with connection:
        connection.sendall(text.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    return (
        status,
        {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)},
        body,
    )


def get(
    daemon: Daemon, path: str, host: str = "localhost", method: str = "GET", more: str = ""
) -> tuple[str, dict[str, str], str]:
    return request(
        daemon, f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n"
    )


def test_without_scripts(daemon: Daemon) -> None:
    """The page holds figures, problems and configuration when it comes.

    Names are escaped, secrets absent, nothing is fetched.
    """
    status, headers, body = get(daemon, "/")
    assert " 200 " in status
    assert headers["content-type"] == "text/html; charset=utf-8"
    for words in (
        "&lt;aliases&gt;",
        "88.8 %",
        "database away: not reached yet",
        "Configuration in effect",
    ):
        assert words in body
    assert "<aliases>" not in body
    assert "s3cr3t" not in body
    assert "k3y" not in body
    assert "example.com" not in body
    assert set(re.findall(r"(?:src|href|action)=(\S+)", body)) == {'"data:,">'}
    assert " style=" not in body


def test_headers(daemon: Daemon) -> None:
    """The policy allows this page's own style and script by their hashes, and nothing else.

    Every page has the other headers, too.
    """
    _, headers, _ = get(daemon, "/")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    for path in ("/", "/status.json", "/metrics", "/nothere"):
        _, headers, _ = get(daemon, path)
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_foreign_names(daemon: Daemon) -> None:
    """A request under a name that is not this machine's is refused on every path, so that no other
    page can read ours.
    """
    for path in ("/", "/status.json", "/metrics", "/nothere"):
        status, _, body = get(daemon, path, host="attacker.example")
        assert " 421 " in status
        assert "mailmapd" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_read_only(daemon: Daemon, method: str) -> None:
    """Nothing but GET and HEAD is served."""
    for path in ("/", "/status.json", "/metrics"):
        status, headers, _ = get(daemon, path, method=method)
        assert " 405 " in status
        assert headers["allow"] == "GET,HEAD"


def test_bad_requests(daemon: Daemon) -> None:
    """A huge header, a huge address and garbage are refused without a line in the log, and the page goes on."""
    for text in (
        "GET / HTTP/1.1\r\nX: " + "x" * 20_000 + "\r\n\r\n",
        "GET /" + "x" * 20_000 + " HTTP/1.1\r\n\r\n",
        "\0\1\2 garbage\r\n\r\n",
    ):
        status, _, _ = request(daemon, text)
        assert " 400 " in status
    assert "Traceback" not in daemon.text()
    assert "xxxx" not in daemon.text()
    assert " 200 " in get(daemon, "/")[0]


def test_for_programs(daemon: Daemon) -> None:
    """/status.json holds counters, activity and errors."""
    figures = json.loads(get(daemon, "/status.json")[2])
    assert figures["snapshot"]["maps"]["<aliases>"]["results"]["found"] == 9
    assert {activity["name"] for activity in figures["activity"]["lookups"]} == {
        "<aliases>",
        "broken",
    }
    assert "s3cr3t" not in str(figures)


def browse(daemon: Daemon, folder: Path, *options: str) -> str:
    """Show the page in Chromium; return what it prints."""
    quiet = (
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-quic",
        "--no-first-run",
    )
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        *quiet,
        f"--user-data-dir={folder / 'profile'}",
        *options,
    ]
    done = subprocess.run(
        [*command, f"http://{daemon.listeners['http']}/"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "Content Security Policy" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.servers
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_in_a_browser(daemon: Daemon, tmp_path: Path) -> None:
    """A browser shows the page in its style and replaces the figures by newer ones.

    The policy stands in the way of neither.
    """
    picture = tmp_path / "page.png"
    browse(daemon, tmp_path, "--window-size=1100,1000", f"--screenshot={picture}")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 30_000
    first = re.search(r"· (\d{4}-.*? UTC)", get(daemon, "/")[2])
    shown = browse(
        daemon, tmp_path, "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom"
    )
    assert 'class="lost"' not in shown
    assert first is not None
    assert "&lt;aliases&gt;" in shown
